package ratelimit

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func rule(t testing.TB, unit Unit, text string) Rule {
	t.Helper()
	parse := func() (Rule, error) { return ParseRate(unit, text) }
	switch unit {
	case Spend:
		parse = func() (Rule, error) { return ParseBudget(text) }
	case Concurrent:
		parse = func() (Rule, error) { return ParseConcurrent(int64(text[0] - '0')) }
	}
	r, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func limits(t testing.TB, unit Unit, text string) []*Limit {
	return New("key/alice", []Rule{rule(t, unit, text)})
}

// at is a time of the wall clock alone, so that it can step.
func at(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

// A timed store is told the time. The tests of what stores have in common run against each of them.
type timed interface {
	take(now time.Time, t *Reservation)
	settle(now time.Time, t *Reservation, tokens, spend int64)
}

// takes tells how many of n requests at that time fit.
func takes(m timed, now time.Time, n int, want Reservation) (fit int) {
	for range n {
		one := want
		if m.take(now, &one); one.Denied == nil {
			fit++
		}
	}
	return fit
}

// A thousand at once, and not one more than the limit.
func TestHoldsExactly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want Reservation
		fit  int64
	}{
		{"requests", Reservation{Limits: limits(t, Requests, "60/h")}, 60},
		{"tokens", Reservation{Limits: limits(t, Tokens, "100k/h"), Tokens: 3000}, 33},
		{"places", Reservation{Limits: limits(t, Concurrent, "7")}, 7},
		{"sliding budget", Reservation{Limits: limits(t, Spend, "$20/30d"), Spend: Dollar / 3}, 60},
		{"monthly budget", Reservation{Limits: limits(t, Spend, "$20/month"), Spend: Dollar}, 20},
		{"all of several", Reservation{Limits: append(limits(t, Requests, "60/h"), limits(t, Spend, "$20/30d")...), Spend: Dollar}, 20},
		{"address", Reservation{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "10/h")}}}, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := NewMemory()
			var fit atomic.Int64
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					one := test.want
					if err := m.Take(t.Context(), &one); err != nil {
						t.Error(err)
					}
					if one.Denied == nil {
						fit.Add(1)
					} else if one.Wait <= 0 {
						t.Error("a denied request is told to come again at once")
					}
				})
			}
			all.Wait()
			if fit.Load() != test.fit {
				t.Errorf("%d fit, want %d", fit.Load(), test.fit)
			}
		})
	}
}

// A limit that is made far smaller than what was used of it holds, too.
func TestLimitIsMadeSmaller(t *testing.T) {
	t.Parallel()
	m, now := newStore(t), at("2026-11-25 12:00:00")
	if takes(m, now, 1, Reservation{Limits: limits(t, Tokens, "1G/30d"), Tokens: 1e9}) != 1 {
		t.Fatal("it does not fit")
	}
	one := Reservation{Limits: limits(t, Tokens, "1/30d"), Tokens: 1}
	if m.take(now, &one); one.Denied == nil || one.Wait != never {
		t.Errorf("denied %v, wait %s", one.Denied, one.Wait)
	}
}

// Whoever comes back when told is let in, and not before.
func TestWaitIsHonest(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name string
		fill int
		want Reservation
		wait time.Duration
	}{
		{"requests", 60, Reservation{Limits: limits(t, Requests, "60/m")}, time.Second},
		{"tokens", 1, Reservation{Limits: limits(t, Tokens, "600/m"), Tokens: 600}, time.Minute},
		{"day of the calendar", 1, Reservation{Limits: limits(t, Spend, "$1/day"), Spend: Dollar}, 12 * time.Hour},
		{"month of the calendar", 1, Reservation{Limits: limits(t, Spend, "$1/month"), Spend: Dollar}, 5*24*time.Hour + 12*time.Hour},
		{"sliding", 1, Reservation{Limits: limits(t, Spend, "$1/60h"), Spend: Dollar}, 61 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t)
			for range test.fill {
				one := test.want
				if m.take(start, &one); one.Denied != nil {
					t.Fatal("it does not fit")
				}
				m.settle(start, &one, one.Tokens, one.Spend)
			}
			denied := test.want
			m.take(start, &denied)
			if denied.Wait != test.wait {
				t.Errorf("wait %s, want %s", denied.Wait, test.wait)
			}
			if takes(m, start.Add(test.wait-time.Millisecond), 1, test.want) != 0 {
				t.Error("it fits a millisecond too early")
			}
			if takes(m, start.Add(test.wait), 1, test.want) != 1 {
				t.Error("it does not fit when it should")
			}
		})
	}
}

// Of several limits that are used up, the one is told that has to be waited for the longest.
func TestLongestWaitIsTold(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00:00")
	short, long := rule(t, Requests, "1/m"), rule(t, Requests, "1/d")
	for _, rules := range [][]Rule{{short, long}, {long, short}} {
		m, one := NewMemory(), Reservation{Limits: New("key/alice", rules)}
		takes(m, now, 1, one)
		m.take(now, &one)
		if one.Denied == nil || one.Denied.Rule != long || one.Wait != 24*time.Hour {
			t.Errorf("%v has to be waited for, for %s", one.Denied, one.Wait)
		}
	}
}

// What no wait helps must be said so.
func TestNever(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want Reservation
	}{
		{"a prompt above the limit", Reservation{Limits: limits(t, Tokens, "100/m"), Tokens: 5000, Prompt: 200}},
		{"a price above the budget", Reservation{Limits: limits(t, Spend, "$1/30d"), Spend: 2 * Dollar}},
		{"a price above the month's", Reservation{Limits: limits(t, Spend, "$1/month"), Spend: 2 * Dollar}},
	} {
		if newStore(t).take(at("2026-11-25 12:00:00"), &test.want); test.want.Denied == nil || test.want.Wait != Never {
			t.Errorf("%s: denied %v, wait %s", test.name, test.want.Denied, test.want.Wait)
		}
	}
	long := Reservation{Limits: limits(t, Tokens, "100/m"), Tokens: 5000, Prompt: 20}
	if newStore(t).take(time.Now(), &long); long.Denied != nil {
		t.Error("an answer that may become longer than the limit never fits")
	}
}

func TestClockSteps(t *testing.T) {
	t.Parallel()
	noon := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name  string
		want  Reservation
		step  time.Duration
		fit   int // of 20 after the step, where 10 fit before
		later time.Duration
		end   int // of 20 so much later
	}{
		{"requests, back an hour", Reservation{Limits: limits(t, Requests, "10/m")}, -time.Hour, 0, time.Minute, 10},
		{"requests, back ten years", Reservation{Limits: limits(t, Requests, "10/m")}, -10 * 365 * 24 * time.Hour, 0, time.Minute, 10},
		{"requests, forward", Reservation{Limits: limits(t, Requests, "10/m")}, time.Hour, 10, time.Minute, 10},
		{"budget, back a day", Reservation{Limits: limits(t, Spend, "$10/60h"), Spend: Dollar}, -24 * time.Hour, 0, 61 * time.Hour, 10},
		{"budget, forward a year", Reservation{Limits: limits(t, Spend, "$10/60h"), Spend: Dollar}, 365 * 24 * time.Hour, 10, 61 * time.Hour, 10},
		{"month, back a second over its edge", Reservation{Limits: limits(t, Spend, "$10/month"), Spend: Dollar}, -25 * 24 * time.Hour, 0, 60 * 24 * time.Hour, 10},
		{"month, back ten years", Reservation{Limits: limits(t, Spend, "$10/month"), Spend: Dollar}, -10 * 365 * 24 * time.Hour, 0, 31 * 24 * time.Hour, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newStore(t)
			if fit := takes(m, noon, 20, test.want); fit != 10 {
				t.Fatalf("%d fit before the step", fit)
			}
			if fit := takes(m, noon.Add(test.step), 20, test.want); fit != test.fit {
				t.Errorf("%d fit after the step, want %d", fit, test.fit)
			}
			if fit := takes(m, noon.Add(test.step+test.later), 20, test.want); fit != test.end {
				t.Errorf("%d fit at the end, want %d", fit, test.end)
			}
		})
	}
	m := newStore(t) // forward by ten years and back again: the budget must not be lost to a future that does not come
	month := Reservation{Limits: limits(t, Spend, "$10/month"), Spend: Dollar}
	takes(m, noon.AddDate(10, 0, 0), 20, month)
	takes(m, noon, 20, month)
	if fit := takes(m, noon.AddDate(0, 1, 0), 20, month); fit != 10 {
		t.Errorf("%d fit a month after the clock was mended", fit)
	}
}

func BenchmarkTake(b *testing.B) {
	m := NewMemory()
	want := Reservation{Limits: New("key/alice", []Rule{rule(b, Requests, "1G/m"), rule(b, Tokens, "1G/m"), rule(b, Concurrent, "9")}), Tokens: 1}
	b.ReportAllocs()
	for b.Loop() {
		m.Take(b.Context(), &want)
		m.Settle(&want, 1, 0)
	}
}

// What is asked for elsewhere is left to those who ask, until they have an answer.
func TestAskedIsLeft(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name string
		want Reservation
	}{
		{"requests", Reservation{Limits: limits(t, Requests, "10/h")}},
		{"budget", Reservation{Limits: limits(t, Spend, "$10/day"), Spend: Dollar}},
		{"address", Reservation{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "10/h")}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, one := NewMemory(), test.want
			for range 7 {
				m.ask(&one, 1)
			}
			if fit := takes(m, now, 10, test.want); fit != 3 {
				t.Errorf("%d fit besides 7 of 10, want 3", fit)
			}
			if m.take(now, &one); one.Denied == nil || one.Wait != pendingWait {
				t.Errorf("denied %v, wait %s", one.Denied, one.Wait)
			}
			for range 7 {
				m.ask(&one, -1)
			}
			if len(m.asked) != 0 {
				t.Errorf("%v are remembered", m.asked)
			}
			if fit := takes(m, now, 10, test.want); fit != 7 {
				t.Errorf("%d fit when the others are refused, want 7", fit)
			}
		})
	}
}

// What others that are under way have only reserved may come free at any moment, and is not told of as used up.
func TestReservedIsNotSpent(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 12:00:00")
	for text, long := range map[string]time.Duration{"$10/60h": 61 * time.Hour, "$10/month": 5*24*time.Hour + 12*time.Hour} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			m := newStore(t)
			var told []int
			take := func(dollars int64, wait time.Duration) *Reservation {
				t.Helper()
				one := &Reservation{Limits: limits(t, Spend, text), Spend: dollars * Dollar, Crossed: func(_ *Limit, percent int) { told = append(told, percent) }}
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
	take := func(unit Unit, rate string, tokens int64, wait time.Duration) *Reservation {
		t.Helper()
		one := &Reservation{Limits: limits(t, unit, rate), Tokens: tokens}
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
