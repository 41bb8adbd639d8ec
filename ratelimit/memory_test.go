package ratelimit_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	limittest.Run(t, func(testing.TB) limittest.Store { return ratelimit.NewMemory() })
}

func TestMemoryHoldsExactly(t *testing.T) {
	t.Parallel()
	limittest.RunConcurrent(t, ratelimit.NewMemory())
}

// Of several limits that deny a request, the reservation names the one with the longest wait.
func TestDeniedByTheLongestWait(t *testing.T) {
	t.Parallel()
	now := limittest.At("2026-11-25 12:00:00")
	short, long := limittest.Rule(t, ratelimit.Requests, "1/m"), limittest.Rule(t, ratelimit.Requests, "1/d")
	for _, rules := range [][]ratelimit.Rule{{short, long}, {long, short}} {
		m, res := ratelimit.NewMemory(), ratelimit.Reservation{Limits: ratelimit.New("key/alice", rules)}
		limittest.Granted(m, now, 1, res)
		m.TakeAt(now, &res)
		if res.Denied == nil || res.Denied.Rule != long || res.Wait != 24*time.Hour {
			t.Errorf("denied by %v, wait %s", res.Denied, res.Wait)
		}
	}
}

// Saved counters are added to what was counted while they were read.
func TestCountersSurviveARestart(t *testing.T) {
	t.Parallel()
	now := limittest.At("2026-11-25 12:00:00")
	limits := ratelimit.New("key/alice", []ratelimit.Rule{
		limittest.Rule(t, ratelimit.Requests, "10/d"), limittest.Rule(t, ratelimit.Tokens, "1k/d"), limittest.Rule(t, ratelimit.Spend, "$10/30d"),
		limittest.Rule(t, ratelimit.Spend, "$10/month"), limittest.Rule(t, ratelimit.Concurrent, "9"),
	})
	want := ratelimit.Reservation{Limits: limits, Tokens: 100, Spend: ratelimit.Dollar}
	before := ratelimit.NewMemory()
	before.Changes() // starts the recording
	limittest.Granted(before, now, 4, want)
	saved := before.Changes()
	if again := before.Changes(); len(saved) != 4 || len(again) != 0 {
		t.Fatalf("%d counters changed, then %d; want 4 and none", len(saved), len(again))
	}
	after := ratelimit.NewMemory()
	limittest.Granted(after, now, 1, want)
	for id, counter := range saved {
		if err := after.Restore(id, counter); err != nil {
			t.Fatal(err)
		}
	}
	after.TakeAt(now, &want)
	for i, left := range []int64{4, 400, 4 * ratelimit.Dollar, 4 * ratelimit.Dollar, 7} {
		if want.Left[i].Left != left {
			t.Errorf("%s: %d left, want %d", limits[i].ID, want.Left[i].Left, left)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	m := ratelimit.NewMemory()
	res := ratelimit.Reservation{Limits: ratelimit.New("key/alice", []ratelimit.Rule{
		limittest.Rule(b, ratelimit.Requests, "1G/m"), limittest.Rule(b, ratelimit.Tokens, "1G/m"), limittest.Rule(b, ratelimit.Concurrent, "9"),
	}), Tokens: 1}
	b.ReportAllocs()
	for b.Loop() {
		m.Take(b.Context(), &res) //nolint:errcheck // it never fails
		m.Settle(&res, 1, 0)
	}
}
