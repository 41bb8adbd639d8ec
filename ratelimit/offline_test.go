package ratelimit_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

// offline runs a test on 25 November 2026 at noon.
func offline(t *testing.T, name string, run func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(limittest.At("2026-11-25 12:00:00")))
			run(t)
		})
	})
}

// grantedOffline returns how many of n requests one of so many processes grants.
func grantedOffline(o *ratelimit.Offline, processes int64, n int, want ratelimit.Reservation) (granted int) {
	for range n {
		res := want
		if o.Take(&res, processes); res.Denied == nil {
			granted++
		}
	}
	return granted
}

// Processes that cannot reach the shared store grant together what was left when they last did, and what becomes free since,
// but never more.
func TestSharesAddUp(t *testing.T) {
	t.Parallel()
	requests := func(rate string) ratelimit.Reservation {
		return ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, rate)}
	}
	dollars := func(budget string, cost int64) ratelimit.Reservation {
		return ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, budget), Spend: cost}
	}
	for _, test := range []struct {
		name      string
		want      ratelimit.Reservation
		used      int // requests before, which all processes know
		later     time.Duration
		processes int64
		each      int // requests that one process grants
		all       int // requests that all processes may grant
	}{
		{"requests", requests("60/h"), 0, 0, 2, 30, 60},
		{"requests, some used", requests("60/h"), 20, 0, 4, 10, 40},
		{"requests that become free", requests("60/h"), 60, 6 * time.Minute, 3, 2, 6},
		{"a share that is rounded down", requests("10/h"), 0, 0, 3, 3, 9},
		{"tokens", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Tokens, "100k/h"), Tokens: 5000}, 0, 0, 2, 10, 20},
		{"sliding budget", dollars("$20/30d", ratelimit.Dollar), 8, 0, 3, 4, 12},
		{"sliding budget, later", dollars("$20/30d", ratelimit.Dollar), 20, 31 * 24 * time.Hour, 2, 10, 20},
		{"monthly budget", dollars("$20/month", ratelimit.Dollar), 10, 0, 5, 2, 10},
		{"monthly budget, next month", dollars("$20/month", ratelimit.Dollar), 20, 6 * 24 * time.Hour, 2, 10, 20},
		{"money is not rounded up", dollars("$1/day", ratelimit.Dollar*6/10), 0, 0, 2, 0, 0},
		{"concurrency", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Concurrent, "8")}, 0, 0, 4, 2, 8},
	} {
		offline(t, test.name, func(t *testing.T) {
			var processes []*ratelimit.Offline
			for range test.processes {
				o := ratelimit.NewOffline()
				grantedOffline(o, 1, test.used, test.want)
				processes = append(processes, o)
			}
			time.Sleep(test.later)
			all := 0
			for i, o := range processes {
				granted := grantedOffline(o, test.processes, 100, test.want)
				if granted != test.each {
					t.Errorf("process %d granted %d requests, want %d", i, granted, test.each)
				}
				all += granted
			}
			if all > test.all {
				t.Errorf("all processes granted %d requests, want %d at most", all, test.all)
			}
		})
	}
}

// If a limit is smaller than the number of processes, each grants one request, and then keeps to its share of the rate.
func TestSharesOfSmallLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		want    ratelimit.Reservation
		granted int
		wait    time.Duration // until the next one is granted; 0 for never
	}{
		{"requests", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "1/m")}, 1, 4 * time.Minute},
		{"tokens", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Tokens, "1000/m"), Tokens: 900, Prompt: 800}, 1, 4 * 54 * time.Second},
		{"concurrency", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Concurrent, "2")}, 1, 0},
		{"a prompt above the limit", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Tokens, "1000/m"), Tokens: 1100, Prompt: 1001}, 0, 0},
	} {
		offline(t, test.name, func(t *testing.T) {
			o := ratelimit.NewOffline()
			if n := grantedOffline(o, 4, 3, test.want); n != test.granted {
				t.Fatalf("%d requests were granted, want %d", n, test.granted)
			}
			if test.wait == 0 {
				return
			}
			time.Sleep(test.wait - time.Second)
			if grantedOffline(o, 4, 1, test.want) != 0 {
				t.Error("the next request is granted a second too early")
			}
			time.Sleep(time.Second)
			if grantedOffline(o, 4, 1, test.want) != 1 {
				t.Error("the next request is denied after the wait")
			}
		})
	}
}

// The wait for what only the shares of other processes exhaust is short, because the shared store may be available soon.
func TestShareWait(t *testing.T) {
	t.Parallel()
	offline(t, "budget", func(t *testing.T) {
		o, res := ratelimit.NewOffline(), ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$10/day"), Spend: 6 * ratelimit.Dollar}
		if o.Take(&res, 2); res.Denied == nil || res.Wait != time.Minute {
			t.Errorf("more than the share: denied by %v, wait %s", res.Denied, res.Wait)
		}
		if res.Left[0].Left != 5*ratelimit.Dollar {
			t.Errorf("%d left, want half of the budget", res.Left[0].Left)
		}
		res.Spend = 11 * ratelimit.Dollar
		if o.Take(&res, 2); res.Wait != ratelimit.Never {
			t.Errorf("more than the budget: wait %s", res.Wait)
		}
		res.Spend = 5 * ratelimit.Dollar
		if o.Take(&res, 2); res.Denied != nil || res.Left[0].Left != 0 {
			t.Errorf("the whole share: denied by %v, left %v", res.Denied, res.Left)
		}
		if o.Settle(&res, 0, ratelimit.Dollar); grantedOffline(o, 2, 2, res) != 0 {
			t.Error("more is granted than was refunded")
		}
		if res.Spend = 4 * ratelimit.Dollar; grantedOffline(o, 2, 2, res) != 1 {
			t.Error("the refund is not granted again")
		}
	})
}

// The collected usage is that which a single process would have counted.
func TestCollect(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want ratelimit.Reservation
		used int64
		sums []float64 // for one request an hour ago and one now
	}{
		{"requests that have drained", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "60/h")}, 0, []float64{1}},
		{"tokens", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Tokens, "24k/d"), Tokens: 5000}, 4500, []float64{8000}},
		{"sliding budget", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$20/60h"), Spend: ratelimit.Dollar}, ratelimit.Dollar / 4, []float64{ratelimit.Dollar / 4, ratelimit.Dollar / 4}},
		{"daily budget", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$20/day"), Spend: ratelimit.Dollar}, ratelimit.Dollar / 4, []float64{ratelimit.Dollar / 4}},
		{"concurrency", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Concurrent, "9")}, 0, nil},
	} {
		offline(t, test.name, func(t *testing.T) {
			time.Sleep(11 * time.Hour) // the hour before midnight
			o := ratelimit.NewOffline()
			for hour := range 2 {
				if hour > 0 {
					time.Sleep(time.Hour)
				}
				res := test.want
				if o.Take(&res, 1); !o.Settle(&res, test.used, test.used) {
					t.Error("a reservation that was not collected is left to the shared store")
				}
			}
			late := test.want
			var amounts []float64
			for _, c := range o.Collect() {
				amounts = append(amounts, c.Amount)
			}
			if fmt.Sprint(amounts) != fmt.Sprint(test.sums) {
				t.Errorf("collected %v, want %v", amounts, test.sums)
			}
			if again := o.Collect(); again != nil {
				t.Errorf("collected again: %v", again)
			}
			o.Take(&late, 1)
			o.Collect()
			if o.Settle(&late, 0, 0) {
				t.Error("a reservation that was collected is settled here")
			}
		})
	}
}

// The memory for offline usage is bounded, however many addresses send requests.
func TestOfflineUsageIsBounded(t *testing.T) {
	t.Parallel()
	o, rule := ratelimit.NewOffline(), limittest.Rule(t, ratelimit.Requests, "10/d")
	for i := range 2 * ratelimit.MaxOfflineLimits {
		o.Take(&ratelimit.Reservation{Limits: ratelimit.New(fmt.Sprint(i), []ratelimit.Rule{rule})}, 1)
	}
	if n := len(o.Collect()); n != ratelimit.MaxOfflineLimits {
		t.Errorf("the usage of %d limits was recorded, want %d", n, ratelimit.MaxOfflineLimits)
	}
}

// Capacity that pending requests need stays free until they have a reply.
func TestPendingRequestsKeepTheirPart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		want ratelimit.Reservation
	}{
		{"requests", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "10/h")}},
		{"budget", ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$10/day"), Spend: ratelimit.Dollar}},
		{"address", ratelimit.Reservation{Limits: limittest.AddressLimits(t, "10/h")}},
	} {
		offline(t, test.name, func(t *testing.T) {
			o, res := ratelimit.NewOffline(), test.want
			for range 7 {
				o.Start(&res)
			}
			if n := grantedOffline(o, 1, 10, test.want); n != 3 {
				t.Errorf("%d requests were granted beside 7 pending ones of 10, want 3", n)
			}
			if o.Take(&res, 1); res.Denied == nil || res.Wait != ratelimit.Soon {
				t.Errorf("denied by %v, wait %s", res.Denied, res.Wait)
			}
			for range 7 {
				o.Abort(&res)
			}
			if n := o.Pending(); n != 0 {
				t.Errorf("%d limits have pending requests, want none", n)
			}
			if n := grantedOffline(o, 1, 10, test.want); n != 7 {
				t.Errorf("%d requests were granted after the pending ones failed, want 7", n)
			}
		})
	}
}

// The counters that the shared store reports replace those of this process, except while it decides by itself.
func TestFinish(t *testing.T) {
	t.Parallel()
	now := time.Now()
	limits := ratelimit.New("key/alice", []ratelimit.Rule{limittest.Rule(t, ratelimit.Requests, "10/d"), limittest.Rule(t, ratelimit.Concurrent, "9")})
	counter := func(i int, text string) ratelimit.Counter {
		c, err := ratelimit.ParseCounter(text, limits[i].Rule)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, test := range []struct {
		name        string
		unavailable bool
		denied      bool
		left        []int64 // of 10 requests and of 9 concurrent ones
	}{
		{"granted", false, false, []int64{4, 8}},
		{"denied", false, true, []int64{4, 9}},
		{"granted, then unavailable", true, false, []int64{9, 8}},
		{"denied, then unavailable", true, true, []int64{10, 9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o, res := ratelimit.NewOffline(), ratelimit.Reservation{Limits: limits}
			o.Start(&res)
			if test.denied {
				res.Denied = limits[1]
			}
			o.Finish(&res, []ratelimit.Counter{counter(0, fmt.Sprint("6 ", now.UnixMicro())), counter(1, "5")}, test.unavailable)
			peek := ratelimit.Reservation{Limits: limits}
			o.Peek(&peek, 1)
			left := []int64{peek.Left[0].Left, peek.Left[1].Left}
			if !slices.Equal(left, test.left) {
				t.Errorf("left %v, want %v", left, test.left)
			}
		})
	}
}
