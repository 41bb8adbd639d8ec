package ratelimit

import (
	"math"
	"testing"
	"time"
)

func FuzzRestore(f *testing.F) {
	f.Add(encode(&tokenBucket{used: 3, at: 5}))
	f.Add(encode(&meteredBucket{tokenBucket: tokenBucket{used: 3, at: 5}}))
	f.Add(encode(&slidingBudget{newest: 3}))
	f.Add(encode(&calendarBudget{period: 3, spent: 9}))
	f.Fuzz(func(t *testing.T, saved []byte) {
		m := NewMemory()
		if m.Restore("x", saved) != nil {
			return
		}
		if _, err := decode(encode(m.counters["x"])); err != nil {
			t.Errorf("a restored counter is encoded as %q: %v", encode(m.counters["x"]), err)
		}
	})
}

// Whatever a store replies, a counter that is parsed has usable numbers.
func FuzzParseCounter(f *testing.F) {
	rules := []Rule{
		{Unit: Requests, Limit: 10, Window: time.Minute}, {Unit: Tokens, Limit: 10, Window: time.Minute}, {Unit: Concurrent, Limit: 9},
		{Unit: Spend, Limit: Dollar, Window: time.Hour}, {Unit: Spend, Limit: Dollar, Calendar: Month},
	}
	for _, text := range []string{"", "1", "3.5 1795576958000000", "3 1795576958000000 2", "24312 80 5000000000 3", "1 2 3 4", "nan 1", "1e400", "-1 -1 -1", "0x10 1"} {
		for kind := range rules {
			f.Add(text, uint(kind))
		}
	}
	f.Fuzz(func(t *testing.T, text string, kind uint) {
		r := rules[kind%uint(len(rules))]
		c, err := ParseCounter(text, r)
		if err != nil {
			return
		}
		used := c.advance(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), r)
		if math.IsNaN(used) || math.IsInf(used, 0) {
			t.Errorf("%q: %v are used", text, used)
		}
		if quota := share(2).quota(c, used, r); quota.Left < 0 {
			t.Errorf("%q: %d are left", text, quota.Left)
		}
		if wait := c.wait(1, r); wait < 0 {
			t.Errorf("%q: wait %s", text, wait)
		}
	})
}
