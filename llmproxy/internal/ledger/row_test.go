package ledger

import (
	"bytes"
	"math"
	"testing"
)

// FuzzRow reads any bytes without panic, and what was written as it was.
func FuzzRow(f *testing.F) {
	full := Sums{Requests: 1, Input: math.MaxInt64, Output: -1, Cached: 3, Spilled: 4, Unpriced: 5, USD: 0.1, Saved: math.Inf(1)}
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
