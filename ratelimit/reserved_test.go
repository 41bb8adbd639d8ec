package ratelimit

import (
	"testing"
	"time"
)

// What others that are under way have only reserved may come free at any moment, and is not told of as used up.
func TestReservedIsNotSpent(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 12:00:00")
	for text, long := range map[string]time.Duration{"$10/60h": 61 * time.Hour, "$10/month": 5*24*time.Hour + 12*time.Hour} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			m := newStore(t)
			var told []int
			take := func(dollars int64, wait time.Duration) *Take {
				t.Helper()
				one := &Take{Limits: limits(t, Spend, text), Spend: dollars * Dollar, Crossed: func(_ *Limit, percent int) { told = append(told, percent) }}
				if m.take(start, one); one.Wait != wait {
					t.Errorf("$%d has to wait %s, want %s", dollars, one.Wait, wait)
				}
				return one
			}
			a, b := take(6, 0), take(4, 0)
			take(1, Soon)
			take(11, never)
			m.settle(start, a, 0, 6*Dollar)
			take(4, Soon)
			take(5, long)
			m.settle(start, b, 0, Dollar)
			if len(told) > 0 {
				t.Errorf("told %v of $7 that were spent", told)
			}
			take(4, long)
			c := take(3, 0)
			take(1, Soon)
			m.settle(start, c, 0, 3*Dollar)
			take(1, long)
			if len(told) != 1 || told[0] != 100 {
				t.Errorf("told %v of all that was spent", told)
			}
		})
	}
}

// So it is with tokens, but not with requests, which nobody gives back.
func TestReservedTokens(t *testing.T) {
	t.Parallel()
	m, start := newStore(t), at("2026-11-25 12:00:00")
	take := func(unit Unit, rate string, tokens int64, wait time.Duration) *Take {
		t.Helper()
		one := &Take{Limits: limits(t, unit, rate), Tokens: tokens}
		if m.take(start, one); one.Wait != wait {
			t.Errorf("%d of %s %s have to wait %s, want %s", tokens, rate, unit, one.Wait, wait)
		}
		return one
	}
	a, b := take(Tokens, "24k/d", 12000, 0), take(Tokens, "24k/d", 12000, 0)
	if reset := b.Left[0].Reset; reset != 24*time.Hour {
		t.Errorf("all is free again in %s, as if nothing of it were used", reset)
	}
	take(Tokens, "24k/d", 1000, Soon)
	m.settle(start, a, 12000, 0)
	take(Tokens, "24k/d", 12000, Soon)
	take(Tokens, "24k/d", 13000, time.Hour)
	m.settle(start, b, 12000, 0)
	take(Tokens, "24k/d", 1000, time.Hour)
	first := take(Requests, "1/d", 0, 0)
	take(Requests, "1/d", 0, 24*time.Hour)
	m.settle(start, first, 0, 0)
	take(Requests, "1/d", 0, 24*time.Hour)
}
