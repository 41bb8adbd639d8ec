package ratelimit

import (
	"math"
	"testing"
)

// Whatever the server says, facts are read as numbers that mean something, or not at all.
func FuzzParseCell(f *testing.F) {
	rules := []Rule{rule(f, Requests, "10/m"), rule(f, Concurrent, "9"), rule(f, Spend, "$1/h"), rule(f, Spend, "$1/month")}
	for _, text := range []string{"", "1", "3.5 1795576958000000", "24312 80 5000000000", "1 2 3 4", "nan 1", "1e400", "-1 -1 -1", "0x10 1"} {
		for kind := range rules {
			f.Add(text, uint(kind))
		}
	}
	f.Fuzz(func(t *testing.T, text string, kind uint) {
		r := rules[kind%uint(len(rules))]
		c, err := parseCell(text, r)
		if err != nil {
			return
		}
		now := at("2026-11-25 12:00:00")
		if used := c.look(now, r); math.IsNaN(used) || math.IsInf(used, 0) {
			t.Errorf("%q: %v are used", text, used)
		}
		if left := share(2).state(c, c.look(now, r), r); left.Left < 0 {
			t.Errorf("%q: %d are left", text, left.Left)
		}
		if c.wait(1, r) < 0 {
			t.Errorf("%q: wait %s", text, c.wait(1, r))
		}
	})
}
