package caching

import "testing"

// Pending writes are bounded in bytes, too, but a value that is larger than the bound is written if it is the only one.
func TestPutsAreBounded(t *testing.T) {
	t.Parallel()
	r := NewRedis(nil, "x")
	items := []Item{{Key{1}, nil}}
	for _, step := range []struct {
		size int
		ok   bool
	}{{maxPutBytes + 1, true}, {1, false}, {-maxPutBytes - 1, true}, {maxPutBytes - 1, true}, {1, true}, {1, false}, {-1, true}, {1, true}} {
		ok := true
		if step.size < 0 {
			r.removePending("p", items, -step.size)
		} else {
			ok = r.addPending("p", items, step.size)
		}
		if ok != step.ok {
			t.Errorf("%d bytes: %v with %d bytes pending", step.size, ok, r.pendingBytes)
		}
	}
}
