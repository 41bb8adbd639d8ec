package caching

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
)

// The layout of a value that holds an answer in two forms: the length of the first entry, that entry, and another one.
const layoutBoth = 2

// both puts two entries into one value, so that they come and go together.
func both(first, second []byte) []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(first)+len(second))
	b = binary.AppendUvarint(append(b, layoutBoth), uint64(len(first)))
	return append(append(b, first...), second...)
}

// inForm gives the entry of a value that has the form wanted, else the first one.
func inForm(value []byte, want Form) []byte {
	if len(value) == 0 || value[0] != layoutBoth {
		return value
	}
	n, size := binary.Uvarint(value[1:])
	rest := value[1+max(size, 0):]
	if size <= 0 || n > uint64(len(rest)) {
		return nil
	}
	if first, second := rest[:n], rest[n:]; len(second) < 3 || Form(second[2]) != want {
		return first
	}
	return rest[n:]
}

// Also keeps an entry that Lookup gave in another form, too, beside it. Where something else is kept under its key by now,
// nothing is done.
func (m *Memory) Also(key Key, e, other *Entry) {
	left := e.TTL - e.Age(time.Now())
	if left <= 0 || len(e.kept) == 0 || e.kept[0] == layoutBoth {
		return
	}
	value := both(e.kept, other.Marshal())
	m.cache.ComputeIfPresent(key, func(now kept) (kept, otter.ComputeOp) {
		if !bytes.Equal(now.value, e.kept) {
			return now, otter.CancelOp
		}
		return kept{value, now.model, left}, otter.WriteOp
	})
}
