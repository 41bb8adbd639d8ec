// Package limittest tests stores of rate limits. It holds what they have in common to the same behavior: ratelimit.Memory, and
// the Redis form in package redislimit. It decides nothing and is imported by tests only.
package limittest

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A Store reserves and settles at given times.
type Store interface {
	TakeAt(now time.Time, res *ratelimit.Reservation)
	SettleAt(now time.Time, res *ratelimit.Reservation, tokens, spend int64)
}

// A Limiter reserves now.
type Limiter interface {
	Take(context.Context, *ratelimit.Reservation) error
}

// Rule parses a rule: a rate, a budget, or one digit for concurrent requests.
func Rule(t testing.TB, unit ratelimit.Unit, text string) ratelimit.Rule {
	t.Helper()
	parse := func() (ratelimit.Rule, error) { return ratelimit.ParseRate(unit, text) }
	switch unit {
	case ratelimit.Spend:
		parse = func() (ratelimit.Rule, error) { return ratelimit.ParseBudget(text) }
	case ratelimit.Concurrent:
		parse = func() (ratelimit.Rule, error) { return ratelimit.ParseConcurrent(int64(text[0] - '0')) }
	}
	r, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Limits returns a key's only limit.
func Limits(t testing.TB, unit ratelimit.Unit, text string) []*ratelimit.Limit {
	t.Helper()
	return ratelimit.New("key/alice", []ratelimit.Rule{Rule(t, unit, text)})
}

// AddressLimits returns an address's only limit.
func AddressLimits(t testing.TB, rate string) []*ratelimit.Limit {
	t.Helper()
	return []*ratelimit.Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: Rule(t, ratelimit.Requests, rate)}}
}

// At parses a time such as 2026-11-25 12:00:00. It has no monotonic clock, so a later one can step back.
func At(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

// Granted returns how many of n requests at a time the store grants.
func Granted(s Store, now time.Time, n int, want ratelimit.Reservation) (granted int) {
	for range n {
		res := want
		if s.TakeAt(now, &res); res.Denied == nil {
			granted++
		}
	}
	return granted
}

// RunConcurrent sends many requests at once through limiters that share their counters: the limits must hold exactly.
func RunConcurrent(t *testing.T, limiters ...Limiter) {
	for _, test := range []struct {
		name string
		want ratelimit.Reservation
		fit  int64
	}{
		{"requests", ratelimit.Reservation{Limits: Limits(t, ratelimit.Requests, "60/d")}, 60},
		{"tokens", ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "100k/d"), Tokens: 3000}, 33},
		{"concurrency", ratelimit.Reservation{Limits: Limits(t, ratelimit.Concurrent, "7")}, 7},
		{"sliding budget", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$20/30d"), Spend: ratelimit.Dollar / 3}, 60},
		{"monthly budget", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$20/month"), Spend: ratelimit.Dollar}, 20},
		{"two limits", ratelimit.Reservation{Limits: ratelimit.New("key/bob", []ratelimit.Rule{Rule(t, ratelimit.Requests, "60/d"), Rule(t, ratelimit.Spend, "$20/30d")}), Spend: ratelimit.Dollar}, 20},
		{"address", ratelimit.Reservation{Limits: AddressLimits(t, "10/d")}, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			var granted atomic.Int64
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					for range 60 {
						res := test.want
						if err := limiters[i%len(limiters)].Take(t.Context(), &res); err != nil {
							t.Error(err)
						}
						if res.Denied == nil {
							granted.Add(1)
						} else if res.Wait <= 0 {
							t.Error("a denied request has no wait")
						}
					}
				})
			}
			all.Wait()
			if granted.Load() != test.fit {
				t.Errorf("%d requests were granted, want %d", granted.Load(), test.fit)
			}
		})
	}
}

// Run tests one store after the other, each of them new.
func Run(t *testing.T, newStore func(testing.TB) Store) {
	for name, run := range map[string]func(*testing.T, func(testing.TB) Store){
		"lowered limit": testLoweredLimit, "wait": testWait, "never": testNever, "clock steps": testClockSteps, "reserve and settle": testReserveAndSettle,
		"reserved money": testReservedMoney, "reserved tokens": testReservedTokens, "sliding budget": testSlidingBudget, "refund": testRefund, "refunded request": testRefundedRequest, "alerts": testAlerts,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newStore)
		})
	}
}

// A limit that is lowered far below its usage still holds.
func testLoweredLimit(t *testing.T, newStore func(testing.TB) Store) {
	s, now := newStore(t), At("2026-11-25 12:00:00")
	if Granted(s, now, 1, ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "1G/30d"), Tokens: 1e9}) != 1 {
		t.Fatal("a request for the whole limit is denied")
	}
	res := ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "1/30d"), Tokens: 1}
	if s.TakeAt(now, &res); res.Denied == nil || res.Wait != ratelimit.Never {
		t.Errorf("denied by %v, wait %s", res.Denied, res.Wait)
	}
}

// A request is granted after the wait that it was told, and not before.
func testWait(t *testing.T, newStore func(testing.TB) Store) {
	start := At("2026-11-25 12:00:00")
	for _, test := range []struct {
		name string
		fill int
		want ratelimit.Reservation
		wait time.Duration
	}{
		{"requests", 60, ratelimit.Reservation{Limits: Limits(t, ratelimit.Requests, "60/m")}, time.Second},
		{"tokens", 1, ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "600/m"), Tokens: 600}, time.Minute},
		{"calendar day", 1, ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$1/day"), Spend: ratelimit.Dollar}, 12 * time.Hour},
		{"calendar month", 1, ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$1/month"), Spend: ratelimit.Dollar}, 5*24*time.Hour + 12*time.Hour},
		{"sliding window", 1, ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$1/60h"), Spend: ratelimit.Dollar}, 61 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			for range test.fill {
				res := test.want
				if s.TakeAt(start, &res); res.Denied != nil {
					t.Fatal("a request within the limit is denied")
				}
				s.SettleAt(start, &res, res.Tokens, res.Spend)
			}
			denied := test.want
			s.TakeAt(start, &denied)
			if denied.Wait != test.wait {
				t.Errorf("wait %s, want %s", denied.Wait, test.wait)
			}
			if Granted(s, start.Add(test.wait-time.Millisecond), 1, test.want) != 0 {
				t.Error("granted a millisecond too early")
			}
			if Granted(s, start.Add(test.wait), 1, test.want) != 1 {
				t.Error("denied after the wait")
			}
		})
	}
}

// A request that can never fit is told so.
func testNever(t *testing.T, newStore func(testing.TB) Store) {
	for _, test := range []struct {
		name string
		want ratelimit.Reservation
	}{
		{"prompt above the limit", ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "100/m"), Tokens: 5000, Prompt: 200}},
		{"cost above the budget", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$1/30d"), Spend: 2 * ratelimit.Dollar}},
		{"cost above the monthly budget", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$1/month"), Spend: 2 * ratelimit.Dollar}},
	} {
		if newStore(t).TakeAt(At("2026-11-25 12:00:00"), &test.want); test.want.Denied == nil || test.want.Wait != ratelimit.Never {
			t.Errorf("%s: denied by %v, wait %s", test.name, test.want.Denied, test.want.Wait)
		}
	}
	long := ratelimit.Reservation{Limits: Limits(t, ratelimit.Tokens, "100/m"), Tokens: 5000, Prompt: 20}
	if newStore(t).TakeAt(time.Now(), &long); long.Denied != nil {
		t.Error("a short prompt whose answer may exceed the limit is denied")
	}
}

func testClockSteps(t *testing.T, newStore func(testing.TB) Store) {
	noon := At("2026-11-25 12:00:00")
	for _, test := range []struct {
		name  string
		want  ratelimit.Reservation
		step  time.Duration
		after int // granted of 20 right after the step, when 10 of 20 were granted before it
		later time.Duration
		end   int // granted of 20 that much later
	}{
		{"requests, back an hour", ratelimit.Reservation{Limits: Limits(t, ratelimit.Requests, "10/m")}, -time.Hour, 0, time.Minute, 10},
		{"requests, back ten years", ratelimit.Reservation{Limits: Limits(t, ratelimit.Requests, "10/m")}, -10 * 365 * 24 * time.Hour, 0, time.Minute, 10},
		{"requests, forward an hour", ratelimit.Reservation{Limits: Limits(t, ratelimit.Requests, "10/m")}, time.Hour, 10, time.Minute, 10},
		{"budget, back a day", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/60h"), Spend: ratelimit.Dollar}, -24 * time.Hour, 0, 61 * time.Hour, 10},
		{"budget, forward a year", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/60h"), Spend: ratelimit.Dollar}, 365 * 24 * time.Hour, 10, 61 * time.Hour, 10},
		{"monthly budget, back into the month before", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/month"), Spend: ratelimit.Dollar}, -25 * 24 * time.Hour, 0, 60 * 24 * time.Hour, 10},
		{"monthly budget, back ten years", ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/month"), Spend: ratelimit.Dollar}, -10 * 365 * 24 * time.Hour, 0, 31 * 24 * time.Hour, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			if n := Granted(s, noon, 20, test.want); n != 10 {
				t.Fatalf("%d granted before the step, want 10", n)
			}
			if n := Granted(s, noon.Add(test.step), 20, test.want); n != test.after {
				t.Errorf("%d granted after the step, want %d", n, test.after)
			}
			if n := Granted(s, noon.Add(test.step+test.later), 20, test.want); n != test.end {
				t.Errorf("%d granted at the end, want %d", n, test.end)
			}
		})
	}
	s := newStore(t) // ten years forward and back again: the counter must not stay in the future
	month := ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/month"), Spend: ratelimit.Dollar}
	Granted(s, noon.AddDate(10, 0, 0), 20, month)
	Granted(s, noon, 20, month)
	if n := Granted(s, noon.AddDate(0, 1, 0), 20, month); n != 10 {
		t.Errorf("%d granted a month after the clock was corrected, want 10", n)
	}
}

// Parallel requests cannot exceed a budget by more than the error of one estimate, and what they did not use is free again.
func testReserveAndSettle(t *testing.T, newStore func(testing.TB) Store) {
	s, now := newStore(t), At("2026-11-25 12:00:00")
	budget := Limits(t, ratelimit.Spend, "$1/30d")
	running := []*ratelimit.Reservation{}
	for range 10 {
		res := &ratelimit.Reservation{Limits: budget, Spend: ratelimit.Dollar / 4}
		if s.TakeAt(now, res); res.Denied == nil {
			running = append(running, res)
		}
	}
	if len(running) != 4 {
		t.Fatalf("%d of ten requests run at the same time, want 4", len(running))
	}
	for _, res := range running { // each costs less than its estimate
		s.SettleAt(now, res, 0, ratelimit.Dollar/10)
		s.SettleAt(now, res, 0, ratelimit.Dollar) // must be ignored
	}
	again := &ratelimit.Reservation{Limits: budget, Spend: ratelimit.Dollar / 4}
	s.TakeAt(now, again)
	if left := again.Left[0].Left; again.Denied != nil || left != ratelimit.Dollar*6/10-ratelimit.Dollar/4 {
		t.Errorf("denied by %v, %d left", again.Denied, left)
	}
	one := Limits(t, ratelimit.Concurrent, "1")
	first, second := &ratelimit.Reservation{Limits: one}, &ratelimit.Reservation{Limits: one}
	s.TakeAt(now, first)
	s.TakeAt(now, second)
	if second.Denied == nil || second.Wait != ratelimit.Never {
		t.Error("two requests run where one is allowed")
	}
	s.SettleAt(now, second, 0, 0) // was denied: must be ignored
	s.SettleAt(now, first, 0, 0)
	s.TakeAt(now, second)
	if second.Denied != nil {
		t.Error("a request is denied although none is running")
	}
}

// Money that is only reserved may be free again soon, and does not count for alerts.
func testReservedMoney(t *testing.T, newStore func(testing.TB) Store) {
	start := At("2026-11-25 12:00:00")
	for text, long := range map[string]time.Duration{"$10/60h": 61 * time.Hour, "$10/month": 5*24*time.Hour + 12*time.Hour} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			var alerts []int
			take := func(dollars int64, wait time.Duration) *ratelimit.Reservation {
				t.Helper()
				res := &ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, text), Spend: dollars * ratelimit.Dollar, BudgetUsed: func(_ *ratelimit.Limit, percent int) { alerts = append(alerts, percent) }}
				if s.TakeAt(start, res); res.Wait != wait {
					t.Errorf("$%d: wait %s, want %s", dollars, res.Wait, wait)
				}
				return res
			}
			a, b := take(6, 0), take(4, 0)
			take(1, ratelimit.Soon)
			take(11, ratelimit.Never)
			s.SettleAt(start, a, 0, 6*ratelimit.Dollar)
			take(4, ratelimit.Soon)
			take(5, long)
			s.SettleAt(start, b, 0, ratelimit.Dollar)
			if len(alerts) > 0 {
				t.Errorf("alerts %v for $7 of $10", alerts)
			}
			take(4, long)
			c := take(3, 0)
			take(1, ratelimit.Soon)
			s.SettleAt(start, c, 0, 3*ratelimit.Dollar)
			take(1, long)
			if len(alerts) != 1 || alerts[0] != 100 {
				t.Errorf("alerts %v for the whole budget, want 100", alerts)
			}
		})
	}
}

// Tokens that are only reserved may be free again soon, too, but requests are never given back.
func testReservedTokens(t *testing.T, newStore func(testing.TB) Store) {
	s, start := newStore(t), At("2026-11-25 12:00:00")
	take := func(unit ratelimit.Unit, rate string, tokens int64, wait time.Duration) *ratelimit.Reservation {
		t.Helper()
		res := &ratelimit.Reservation{Limits: Limits(t, unit, rate), Tokens: tokens}
		if s.TakeAt(start, res); res.Wait != wait {
			t.Errorf("%d of %s %s: wait %s, want %s", tokens, rate, unit, res.Wait, wait)
		}
		return res
	}
	a, b := take(ratelimit.Tokens, "24k/d", 12000, 0), take(ratelimit.Tokens, "24k/d", 12000, 0)
	if reset := b.Left[0].Reset; reset != 24*time.Hour {
		t.Errorf("the limit resets in %s, want a day", reset)
	}
	take(ratelimit.Tokens, "24k/d", 1000, ratelimit.Soon)
	s.SettleAt(start, a, 12000, 0)
	take(ratelimit.Tokens, "24k/d", 12000, ratelimit.Soon)
	take(ratelimit.Tokens, "24k/d", 13000, time.Hour)
	s.SettleAt(start, b, 12000, 0)
	take(ratelimit.Tokens, "24k/d", 1000, time.Hour)
	first := take(ratelimit.Requests, "1/d", 0, 0)
	take(ratelimit.Requests, "1/d", 0, 24*time.Hour)
	s.SettleAt(start, first, 0, 0)
	take(ratelimit.Requests, "1/d", 0, 24*time.Hour)
}

// No period of the window's length costs more than the budget.
func testSlidingBudget(t *testing.T, newStore func(testing.TB) Store) {
	s, start := newStore(t), At("2026-11-25 12:00:00")
	want := ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/60h"), Spend: ratelimit.Dollar}
	var spent []time.Duration
	for step := range 4000 { // every 15 minutes for 41 days
		elapsed := time.Duration(step) * 15 * time.Minute
		if Granted(s, start.Add(elapsed), 1, want) == 1 {
			spent = append(spent, elapsed)
		}
	}
	for i := range spent[10:] {
		if spent[i+10]-spent[i] < 60*time.Hour {
			t.Fatalf("$11 were granted within %s", spent[i+10]-spent[i])
		}
	}
	if len(spent) < 150 {
		t.Errorf("$%d were granted, want about $160", len(spent))
	}
}

// A request that turns out to be invalid leaves nothing behind. One that is valid stays counted.
func testRefundedRequest(t *testing.T, newStore func(testing.TB) Store) {
	start := At("2026-11-25 12:00:00")
	rules := []ratelimit.Rule{Rule(t, ratelimit.Requests, "3/d"), Rule(t, ratelimit.Concurrent, "2"), Rule(t, ratelimit.Tokens, "100/d"), Rule(t, ratelimit.Spend, "$1/month")}
	want := ratelimit.Reservation{Limits: ratelimit.New("key/alice", rules), Tokens: 30, Spend: ratelimit.Dollar / 4}
	s := newStore(t)
	for range 10 {
		invalid := want
		s.TakeAt(start, &invalid)
		if invalid.Denied != nil {
			t.Fatalf("an invalid request counts: denied by %v", invalid.Denied.ID)
		}
		invalid.Refund = true
		s.SettleAt(start, &invalid, 30, ratelimit.Dollar/4)
		s.SettleAt(start, &invalid, 0, 0) // must be ignored
	}
	for range 3 {
		valid := want
		if s.TakeAt(start, &valid); valid.Denied != nil {
			t.Errorf("a valid request is denied by %v", valid.Denied.ID)
		}
		s.SettleAt(start, &valid, 0, 0)
	}
	fourth := want
	if s.TakeAt(start, &fourth); fourth.Denied != fourth.Limits[0] {
		t.Error("valid requests do not stay counted")
	}
	byAddress := ratelimit.Reservation{Limits: AddressLimits(t, "1/d")}
	for range 3 {
		invalid := byAddress
		if s.TakeAt(start, &invalid); invalid.Denied != nil {
			t.Fatal("an invalid request of an address counts")
		}
		invalid.Refund = true
		s.SettleAt(start, &invalid, 0, 0)
	}
	if Granted(s, start, 2, byAddress) != 1 {
		t.Error("valid requests of an address do not stay counted")
	}
}

// A refund belongs to the interval of its reservation, and leaves the window with it.
func testRefund(t *testing.T, newStore func(testing.TB) Store) {
	s, want := newStore(t), ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, "$10/60h"), Spend: 8 * ratelimit.Dollar} // intervals of an hour
	start := At("2026-11-25 12:00:00")
	old := want
	s.TakeAt(start, &old)
	s.SettleAt(start.Add(3*time.Hour), &old, 0, ratelimit.Dollar)
	if want.Spend = 9 * ratelimit.Dollar; Granted(s, start.Add(3*time.Hour), 2, want) != 1 {
		t.Error("the $7 of the refund are not free, or more than that")
	}
	late := ratelimit.Reservation{Limits: want.Limits, Spend: ratelimit.Dollar}
	if Granted(s, start.Add(60*time.Hour), 1, late) != 0 || Granted(s, start.Add(61*time.Hour), 2, late) != 1 {
		t.Error("the dollar of the first hour does not leave the window with it, or another one does")
	}
}

// Each threshold of a budget is reported once per window.
func testAlerts(t *testing.T, newStore func(testing.TB) Store) {
	for _, text := range []string{"$10/30d", "$10/month"} {
		s, now := newStore(t), At("2026-11-02 12:00:00")
		var alerts []int
		spend := func(dollars int64) {
			res := &ratelimit.Reservation{Limits: Limits(t, ratelimit.Spend, text), BudgetUsed: func(_ *ratelimit.Limit, percent int) { alerts = append(alerts, percent) }}
			s.TakeAt(now, res)
			s.SettleAt(now, res, 0, dollars*ratelimit.Dollar)
		}
		for _, dollars := range []int64{7, 1, 1, 1, 3} {
			spend(dollars)
		}
		now = now.AddDate(0, 2, 0)
		spend(1)
		spend(8)
		if len(alerts) != 3 || alerts[0] != 80 || alerts[1] != 100 || alerts[2] != 80 {
			t.Errorf("%s: alerts %v, want 80, 100 and, two months later, 80", text, alerts)
		}
	}
}
