package ledger

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// Rows that earlier versions wrote stay readable.
func TestFirstFormat(t *testing.T) {
	t.Parallel()
	value := []byte{firstFormat}
	for _, n := range []int64{6, 38, 18, 2, 1, 4} {
		value = binary.AppendVarint(value, n)
	}
	value = binary.BigEndian.AppendUint64(value, math.Float64bits(0.75))
	value = binary.BigEndian.AppendUint64(value, math.Float64bits(0.5))
	var got Sums
	want := Sums{Requests: 6, Usage: tokens.Usage{Input: 38, Output: 18, Cached: 2}, Spilled: 1, Unpriced: 4, USD: 0.75, Saved: 0.5}
	if err := got.parseValue(value); err != nil || got != want {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	for n := range value {
		if err := new(Sums).parseValue(value[:n]); err == nil {
			t.Errorf("%d bytes of %d were read", n, len(value))
		}
	}
}

// A row written before a count was added lacks it.
func TestShorterUsage(t *testing.T) {
	t.Parallel()
	full := Sums{Requests: 1, Usage: tokens.Usage{Input: 2, Searches: 3}, USD: 4}
	value := full.appendValue(nil)
	var got Sums
	if err := got.parseValue(value[:len(value)-1]); err != nil || got.Input != 2 || got.Searches != 0 || got.USD != 4 {
		t.Errorf("read %+v, %v", got, err)
	}
}

// FuzzRow reads any bytes without panic, and what was written as it was.
func FuzzRow(f *testing.F) {
	full := Sums{Requests: 1, Usage: tokens.Usage{Input: math.MaxInt64, Output: -1, Cached: 3}, Spilled: 4, Unpriced: 5, USD: 0.1, Saved: math.Inf(1)}
	f.Add(rowID{key: "alice", model: "m\x00", target: "gpu/m"}.appendName(nil), full.appendValue(nil))
	f.Add(rowID{}.appendName(nil), (&Sums{}).appendValue(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, []byte{1, 0x80})
	f.Add([]byte{3, 'a'}, []byte{2})
	f.Fuzz(func(t *testing.T, name, value []byte) {
		var id, again rowID
		if id.parseName(name) == nil {
			if err := again.parseName(id.appendName(nil)); err != nil || again != id {
				t.Errorf("%v became %v, %v", id, again, err)
			}
		}
		var s, copied Sums
		if s.parseValue(value) == nil {
			written := s.appendValue(nil)
			if err := copied.parseValue(written); err != nil || !bytes.Equal(copied.appendValue(nil), written) {
				t.Errorf("%v became %v, %v", s, copied, err)
			}
		}
		third := rowID{key: string(name), model: string(value), target: "t"}
		if err := again.parseName(third.appendName(nil)); err != nil || again != third {
			t.Errorf("%v became %v, %v", third, again, err)
		}
	})
}
