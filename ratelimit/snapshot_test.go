package ratelimit

import (
	"testing"
)

func TestFactsOutliveARestart(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00:00")
	all := New("key/alice", []Rule{rule(t, Requests, "10/d"), rule(t, Spend, "$10/30d"), rule(t, Spend, "$10/month"), rule(t, Concurrent, "9")})
	before := NewMemory()
	before.Changes() // from now on it takes note
	for range 4 {
		before.take(now, &Reservation{Limits: all, Spend: Dollar})
	}
	kept := before.Changes()
	if len(kept) != 3 || len(before.Changes()) != 0 {
		t.Fatalf("%d facts were kept", len(kept))
	}
	after := NewMemory()
	after.take(now, &Reservation{Limits: all, Spend: Dollar}) // the store was slow to open
	for id, facts := range kept {
		if err := after.Restore(id, facts); err != nil {
			t.Fatal(err)
		}
	}
	left := &Reservation{Limits: all}
	after.take(now, left)
	for i, want := range []int64{4, 5 * Dollar, 5 * Dollar, 7} {
		if left.Left[i].Left != want {
			t.Errorf("%s: %d left, want %d", all[i].ID, left.Left[i].Left, want)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add(encode(&bucket{used: 3, at: 5}))
	f.Add(encode(&metered{bucket: bucket{used: 3, at: 5}}))
	f.Add(encode(&spending{head: 3}))
	f.Add(encode(&period{number: 3, spent: 9}))
	f.Fuzz(func(t *testing.T, facts []byte) {
		m := NewMemory()
		if m.Restore("x", facts) != nil {
			return
		}
		if c, err := decode(encode(m.cells["x"])); err != nil || c == nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
