//go:build redis

package redislimit

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

// generous is a timeout for tests of something else than timeouts, on however busy a machine.
const generous = 10 * time.Second

// connect returns a client that does not time out early.
func connect(t testing.TB, s *redistest.Server) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: s.Address, DialTimeout: time.Second, ReadTimeout: generous, WriteTimeout: generous, PoolTimeout: generous, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1,
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// A timedLimiter has no background goroutine: its server is told the time, and settlements are sent at once.
type timedLimiter struct {
	*Limiter
	t testing.TB
}

func newTimed(t testing.TB) limittest.Store {
	l := newLimiter(connect(t, redistest.Start(t)), Config{Report: func(err error) { t.Error(err) }})
	l.timeout = generous
	return timedLimiter{l, t}
}

func (l timedLimiter) TakeAt(now time.Time, res *ratelimit.Reservation) {
	l.clock = strconv.FormatInt(now.UnixMicro(), 10)
	if err := l.Take(context.Background(), res); err != nil {
		l.t.Error(err)
	}
}

func (l timedLimiter) SettleAt(now time.Time, res *ratelimit.Reservation, tokens, spend int64) {
	l.clock = strconv.FormatInt(now.UnixMicro(), 10)
	l.Settle(res, tokens, spend)
	select {
	case s := <-l.queue:
		if err := l.send(generous, s); err != nil {
			l.t.Error(err)
		}
	default:
	}
}

// startTwo returns the limiters of two processes on a server.
func startTwo(t *testing.T, server *redistest.Server, timeout time.Duration) (limiters [2]*Limiter) {
	for i := range limiters {
		limiters[i] = newLimiter(connect(t, server), Config{})
		limiters[i].timeout = timeout
		go limiters[i].run()
		t.Cleanup(func() { limiters[i].Close() })
	}
	return limiters
}

// eventually waits for a condition that becomes true in the background, and fails the test with a message after a minute.
func eventually(t *testing.T, message string, condition func() bool) {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatal(message)
		}
	}
}

// granted reports whether a limiter grants a request.
func granted(t *testing.T, l limittest.Limiter, want ratelimit.Reservation) bool {
	t.Helper()
	if err := l.Take(t.Context(), &want); err != nil {
		t.Error(err)
		return false
	}
	return want.Denied == nil
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	limittest.Run(t, newTimed)
}

// Two processes enforce the same limits exactly.
func TestTwoProcessesHoldExactly(t *testing.T) {
	limiters := startTwo(t, redistest.Start(t), generous)
	limittest.RunConcurrent(t, limiters[0], limiters[1])
}

// The refund of one process is available to the other.
func TestSettle(t *testing.T) {
	limiters := startTwo(t, redistest.Start(t), generous)
	one := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Concurrent, "1")}
	first := one
	if err := limiters[0].Take(t.Context(), &first); err != nil || granted(t, limiters[1], one) {
		t.Fatal("two requests run where one is allowed: ", err)
	}
	limiters[0].Settle(&first, 0, 0)
	if !granted(t, limiters[1], one) {
		t.Error("the lease did not end with the request")
	}
	dollar := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$1/month"), Spend: ratelimit.Dollar}
	first = dollar
	if err := limiters[0].Take(t.Context(), &first); err != nil || granted(t, limiters[1], dollar) {
		t.Fatal("$2 are reserved where $1 is allowed: ", err)
	}
	limiters[0].Settle(&first, 0, 0)
	limiters[0].Settle(&first, 0, -ratelimit.Dollar) // must be ignored
	eventually(t, "the refund does not become free", func() bool { return granted(t, limiters[1], dollar) })
	if granted(t, limiters[1], dollar) {
		t.Error("more was refunded than reserved")
	}
}

// The leases of a dead process expire. Those of a live process do not, even if the server forgets them.
func TestLeases(t *testing.T) {
	server := redistest.Start(t)
	live, dead := newLimiter(connect(t, server), Config{}), newLimiter(connect(t, server), Config{})
	live.timeout, dead.timeout = generous, generous
	want := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Concurrent, "2")}
	timed, start := timedLimiter{live, t}, limittest.At("2026-11-25 12:00:00")
	held := want
	timed.TakeAt(start, &held)
	timedLimiter{dead, t}.TakeAt(start, &ratelimit.Reservation{Limits: want.Limits})
	if limittest.Granted(timed, start.Add(leaseRenewal), 1, want) != 0 {
		t.Fatal("three requests run where two are allowed")
	}
	live.renew()
	later := start.Add(leaseTTL + time.Second)
	one := want
	if timed.TakeAt(later, &one); one.Denied != nil || limittest.Granted(timed, later, 1, want) != 0 {
		t.Error("not exactly one of two leases has expired")
	}
	if err := live.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	live.renew()
	if limittest.Granted(timed, later, 1, want) != 0 {
		t.Error("the leases of running requests were lost with the server's memory")
	}
}

// Every key expires.
func TestKeysExpire(t *testing.T) {
	l := startTwo(t, redistest.Start(t), generous)[0]
	var rules []ratelimit.Rule
	for _, rule := range []struct {
		unit ratelimit.Unit
		text string
	}{{ratelimit.Requests, "10/m"}, {ratelimit.Tokens, "1k/d"}, {ratelimit.Spend, "$1/h"}, {ratelimit.Spend, "$1/day"}, {ratelimit.Spend, "$1/month"}, {ratelimit.Concurrent, "9"}} {
		rules = append(rules, limittest.Rule(t, rule.unit, rule.text))
	}
	limits := append(ratelimit.New("key/alice", rules), limittest.AddressLimits(t, "10/m")...)
	if !granted(t, l, ratelimit.Reservation{Limits: limits, Tokens: 10}) {
		t.Fatal("a request within the limits is denied")
	}
	if err := l.heartbeat(presenceTTL); err != nil {
		t.Fatal(err)
	}
	keys, err := l.client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != len(limits)+1 {
		t.Fatalf("keys %q, %v", keys, err)
	}
	for _, key := range keys {
		ttl, err := l.client.PTTL(t.Context(), key).Result()
		if err != nil || ttl <= 0 || ttl > 63*24*time.Hour {
			t.Errorf("%s expires in %s, %v", key, ttl, err)
		}
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := New(connect(b, redistest.Start(b)), Config{})
	l.timeout = generous
	defer l.Close()
	res := ratelimit.Reservation{Limits: ratelimit.New("key/alice", []ratelimit.Rule{
		limittest.Rule(b, ratelimit.Requests, "1G/m"), limittest.Rule(b, ratelimit.Tokens, "1G/m"), limittest.Rule(b, ratelimit.Spend, "$1000/30d"), limittest.Rule(b, ratelimit.Concurrent, "9"),
	}), Tokens: 9}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Take(b.Context(), &res); err != nil {
			b.Fatal(err)
		}
		l.Settle(&res, 5, 3)
	}
}
