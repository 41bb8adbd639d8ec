//go:build redis

package redislimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/limittest"
)

// maxStall is far more than the 50 ms for which a request waits for the server, on however busy a machine, and far less than it
// would wait for a hung server without that timeout.
const maxStall = generous / 4

// startPair returns the fallbacks of two processes that have counted each other.
func startPair(t *testing.T, server *redistest.Server) (both [2]Fallback) {
	t.Helper()
	for i, l := range startTwo(t, server, requestTimeout) {
		both[i] = Fallback{l}
	}
	for _, f := range both {
		eventually(t, "the processes do not count each other", func() bool { return f.shares() == 2 })
	}
	return both
}

// awaitAvailable waits until both processes use the server.
func awaitAvailable(t *testing.T, both [2]Fallback) {
	t.Helper()
	for _, f := range both {
		eventually(t, "the server stays unavailable", func() bool { return !f.unavailable.Load() })
	}
}

// countGranted returns how many of n requests are granted. None of them may stall.
func countGranted(t *testing.T, f Fallback, want ratelimit.Reservation, n int) (count int) {
	t.Helper()
	for range n {
		start := time.Now()
		if granted(t, f, want) {
			count++
		}
		if took := time.Since(start); took > maxStall {
			t.Errorf("a request stalled for %s", took)
		}
	}
	return count
}

// While the server is unavailable, each of two processes grants half of what was left. Afterwards this usage is added to the
// server's counters, so that the limits hold all the time.
func TestOutage(t *testing.T) {
	down, up := (*redistest.Server).Down, (*redistest.Server).Up
	for _, test := range []struct {
		name       string
		setup      redistest.Setup
		begin, end func(*redistest.Server)
		left       int // of 20; 6 of them were used before
	}{
		{"restart", redistest.Setup{Lasting: true}, down, up, 0},
		{"restart without persistence", redistest.Setup{}, down, up, 6},
		{"hang", redistest.Setup{}, (*redistest.Server).Hang, (*redistest.Server).GoOn, 0},
		{"restart of Valkey", redistest.Setup{Binary: "valkey-server", Lasting: true}, down, up, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := test.setup.Start(t)
			setTimeout := func(both [2]Fallback, timeout time.Duration) { both[0].timeout, both[1].timeout = timeout, timeout }
			both, wants := startPair(t, server), []ratelimit.Reservation{
				{Limits: limittest.Limits(t, ratelimit.Requests, "20/d")},
				{Limits: limittest.Limits(t, ratelimit.Tokens, "2k/d"), Tokens: 100},
				{Limits: limittest.Limits(t, ratelimit.Spend, "$20/30d"), Spend: ratelimit.Dollar},
				{Limits: limittest.Limits(t, ratelimit.Spend, "$20/month"), Spend: ratelimit.Dollar},
				{Limits: limittest.AddressLimits(t, "20/d")},
			}
			setTimeout(both, generous)
			for _, want := range wants {
				for _, f := range [...]Fallback{both[0], both[0], both[0], both[0], both[1], both[0]} {
					if !granted(t, f, want) {
						t.Fatal("a request within the limit is denied")
					}
				}
			}
			setTimeout(both, requestTimeout)
			test.begin(server)
			for _, want := range wants {
				if a, b := countGranted(t, both[0], want, 20), countGranted(t, both[1], want, 20); a != 7 || b != 7 {
					t.Errorf("%s: %d and %d granted during the outage, want half of 14 each", want.Limits[0].Rule, a, b)
				}
			}
			test.end(server)
			awaitAvailable(t, both)
			setTimeout(both, generous)
			for _, want := range wants {
				count := 0
				for n := range 20 {
					if granted(t, both[n%2], want) {
						count++
					}
				}
				if count != test.left {
					t.Errorf("%s: %d granted after the outage, want %d", want.Limits[0].Rule, count, test.left)
				}
			}
		})
	}
}

// A request may begin before an outage and end in it, or begin in it and end afterwards: its usage counts once.
func TestSettleAcrossAnOutage(t *testing.T) {
	server := redistest.StartLasting(t)
	f := startPair(t, server)[0]
	f.timeout = generous // a late reply would leave its reservation counted
	newRequest := func(key string) *ratelimit.Reservation {
		rules := []ratelimit.Rule{limittest.Rule(t, ratelimit.Spend, "$20/month"), limittest.Rule(t, ratelimit.Concurrent, "4")}
		return &ratelimit.Reservation{Limits: ratelimit.New(key, rules), Spend: 4 * ratelimit.Dollar}
	}
	begin := func(key string) *ratelimit.Reservation {
		t.Helper()
		res := newRequest(key)
		if err := f.Take(t.Context(), res); err != nil || res.Denied != nil {
			t.Fatalf("%v, denied by %v", err, res.Denied)
		}
		return res
	}
	before := begin("before")
	server.Down()
	within, after := begin("within"), begin("after")
	f.Settle(before, 0, ratelimit.Dollar)
	f.Settle(within, 0, 2*ratelimit.Dollar)
	f.Settle(within, 0, 3*ratelimit.Dollar) // must be ignored
	f.mu.Lock()
	if f.held[after.Lease] == nil || len(f.held) != 1 {
		t.Errorf("leases held: %v, want only that of the running request", f.held)
	}
	f.mu.Unlock()
	server.Up()
	eventually(t, "the server stays unavailable", func() bool { return !f.unavailable.Load() })
	peek := newRequest("after")
	if err := f.Peek(t.Context(), peek); err != nil || peek.Left[0].Left != 16*ratelimit.Dollar || peek.Left[1].Left != 3 {
		t.Errorf("%v are left while the request is running, %v", peek.Left, err)
	}
	f.Settle(after, 0, 3*ratelimit.Dollar)
	for key, want := range map[string]int64{"before": 19, "within": 18, "after": 17} {
		var peek *ratelimit.Reservation
		eventually(t, "the request is not settled: "+key, func() bool {
			peek = newRequest(key)
			return f.Peek(t.Context(), peek) == nil && peek.Left[0].Left == want*ratelimit.Dollar
		})
		if peek.Left[1].Left != 4 {
			t.Errorf("%s: %d leases are free, want 4", key, peek.Left[1].Left)
		}
	}
}

// A correction whose reply is lost is sent again, and counts once.
func TestCorrectionsCountOnce(t *testing.T) {
	server := redistest.Start(t)
	l := newLimiter(server.Client(t), Config{})
	var alerts []int
	limits := ratelimit.New("key/alice", []ratelimit.Rule{limittest.Rule(t, ratelimit.Spend, "$20/30d"), limittest.Rule(t, ratelimit.Requests, "20/d")})
	l.offline.Take(&ratelimit.Reservation{Limits: limits, Spend: 16 * ratelimit.Dollar, BudgetUsed: func(_ *ratelimit.Limit, percent int) { alerts = append(alerts, percent) }}, 1)
	server.Hang()
	for range 3 {
		if l.sendCorrections() == nil {
			t.Fatal("the hung server replied")
		}
	}
	server.GoOn()
	if err := l.sendCorrections(); err != nil {
		t.Fatal(err)
	}
	l.unavailable.Store(false)
	peek := ratelimit.Reservation{Limits: limits}
	if err := l.Peek(t.Context(), &peek); err != nil || peek.Left[0].Left != 4*ratelimit.Dollar || peek.Left[1].Left != 19 {
		t.Errorf("%v are left, %v", peek.Left, err)
	}
	// The alert comes with the reply, which may be the one that was lost.
	if text := fmt.Sprint(alerts); text != "[]" && text != "[80]" {
		t.Errorf("alerts %s, want 80 once at most", text)
	}
}

// A process that is closed is no longer counted, and one that has died not for long.
func TestPresence(t *testing.T) {
	server := redistest.Start(t)
	a, b := newLimiter(connect(t, server), Config{}), New(connect(t, server), Config{})
	eventually(t, "the processes do not count each other", func() bool { return a.heartbeat(presenceTTL) == nil && a.shares() == 2 })
	b.Close()
	if err := a.heartbeat(presenceTTL); err != nil || a.shares() != 1 {
		t.Errorf("%d processes after one was closed, %v", a.shares(), err)
	}
	if ttl, err := a.client.TTL(t.Context(), keyPrefix+"present").Result(); err != nil || ttl < presenceTTL {
		t.Errorf("the set of processes expires in %s, %v", ttl, err)
	}
	c := newLimiter(connect(t, server), Config{})
	start := limittest.At("2026-11-25 12:00:00")
	c.clock = strconv.FormatInt(start.UnixMicro(), 10)
	a.clock = strconv.FormatInt(start.Add(presenceTTL+time.Second).UnixMicro(), 10)
	if err := errors.Join(a.client.FlushAll(t.Context()).Err(), c.heartbeat(presenceTTL), a.heartbeat(presenceTTL)); err != nil || a.shares() != 1 {
		t.Errorf("%d processes after one has died, %v", a.shares(), err)
	}
}

// Before its first heartbeat, a process uses the configured number of processes.
func TestConfiguredProcesses(t *testing.T) {
	var heartbeats []int64
	l := newLimiter(connect(t, redistest.Start(t)), Config{Processes: 4, OnHeartbeat: func(n int64) { heartbeats = append(heartbeats, n) }})
	l.unavailable.Store(true)
	if n := countGranted(t, Fallback{l}, ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "12/d")}, 20); n != 3 {
		t.Errorf("%d requests were granted, want a quarter of 12", n)
	}
	if err := l.heartbeat(presenceTTL); err != nil || l.shares() != 1 || len(heartbeats) != 1 || heartbeats[0] != 1 {
		t.Errorf("%v; %d processes, heartbeats %v", err, l.shares(), heartbeats)
	}
	if err := l.heartbeat(0); err != nil || len(heartbeats) != 1 {
		t.Errorf("%v; OnHeartbeat was called when the process unregistered: %v", err, heartbeats)
	}
}

// A server that refuses to run the scripts is unavailable: one that is full, read-only, or does not permit them.
func TestServerRefusesScripts(t *testing.T) {
	for _, test := range []struct {
		name    string
		setup   redistest.Setup
		disable []any
		want    string
		enable  []any
	}{
		{"out of memory", redistest.Setup{Args: []string{"--maxmemory-policy", "noeviction"}}, []any{"CONFIG", "SET", "maxmemory", "1"}, "OOM", []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"replica", redistest.Setup{}, []any{"REPLICAOF", "127.0.0.1", "1"}, "READONLY", []any{"REPLICAOF", "NO", "ONE"}},
		{"no permission", redistest.Setup{}, []any{"ACL", "SETUSER", "default", "-evalsha", "-eval"}, "NOPERM", []any{"ACL", "SETUSER", "default", "+evalsha", "+eval"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := test.setup.Start(t)
			client, reports := server.Client(t), make(chan error, 100)
			l := New(connect(t, server), Config{Report: func(err error) { reports <- err }})
			t.Cleanup(func() { l.Close() })
			f, want := Fallback{l}, ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Requests, "20/d")}
			if n := countGranted(t, f, want, 4); n != 4 {
				t.Fatalf("%d of 4 requests within the limit were granted", n)
			}
			if err := client.Do(t.Context(), test.disable...).Err(); err != nil {
				t.Fatal(err)
			}
			if n := countGranted(t, f, want, 20); n != 16 {
				t.Errorf("%d requests were granted without the server, want the 16 that were left", n)
			}
			if err := <-reports; err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("reported %v, want %s", err, test.want)
			}
			if err := client.Do(t.Context(), test.enable...).Err(); err != nil {
				t.Fatal(err)
			}
			if err := <-reports; err != nil {
				t.Errorf("reported %v, want that the server is available", err)
			}
			if n := countGranted(t, f, want, 4); n != 0 {
				t.Errorf("%d requests were granted afterwards, want none", n)
			}
		})
	}
}

// repeat sends requests from several goroutines, one every millisecond each, until stop is called.
func repeat(clients int, request func(client int)) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			pace := time.NewTicker(time.Millisecond) // so that they leave each other processor time
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
					request(i)
				}
			}
		})
	}
	return func() {
		close(done)
		all.Wait()
	}
}

// The server is stopped, started, hung and flushed while requests run: no request stalls, and in the end the limits hold.
func TestRepeatedOutages(t *testing.T) {
	server := redistest.Start(t)
	limiters := startTwo(t, server, requestTimeout)
	want := ratelimit.Reservation{Limits: append(limittest.Limits(t, ratelimit.Requests, "1M/s"), limittest.Limits(t, ratelimit.Concurrent, "9")...)}
	var slowest atomic.Int64
	stop := repeat(8, func(i int) {
		f, res, start := Fallback{limiters[i%2]}, want, time.Now()
		if err := f.Take(t.Context(), &res); err != nil {
			t.Error(err)
		}
		f.Settle(&res, 0, 0)
		for took := int64(time.Since(start)); ; {
			if before := slowest.Load(); took <= before || slowest.CompareAndSwap(before, took) {
				return
			}
		}
	})
	available := func() bool { return !limiters[0].unavailable.Load() && !limiters[1].unavailable.Load() }
	unavailable := func() bool { return limiters[0].unavailable.Load() && limiters[1].unavailable.Load() }
	for range 3 {
		server.Down()
		eventually(t, "a stopped server stays available", unavailable)
		server.Up()
		eventually(t, "the server stays unavailable", available)
		server.Hang()
		eventually(t, "a hung server stays available", unavailable)
		server.GoOn()
		eventually(t, "the server stays unavailable", available)
		client := connect(t, server)
		if err := errors.Join(client.FlushAll(t.Context()).Err(), client.ScriptFlush(t.Context()).Err()); err != nil {
			t.Error(err)
		}
	}
	stop()
	t.Logf("the slowest request took %s", time.Duration(slowest.Load()))
	if took := time.Duration(slowest.Load()); took > 2*maxStall { // to take and to settle
		t.Errorf("the slowest request took %s", took)
	}
	eventually(t, "the server stays unavailable", available)
	limiters[0].timeout, limiters[1].timeout = generous, generous
	count := 0
	for n := range 40 {
		if granted(t, limiters[n%2], ratelimit.Reservation{Limits: ratelimit.New("key/last", []ratelimit.Rule{limittest.Rule(t, ratelimit.Requests, "10/d")})}) {
			count++
		}
	}
	if count != 10 {
		t.Errorf("%d requests were granted in the end, want 10", count)
	}
}

// All usage that is granted while the server comes and goes is counted in the end, and only requests whose replies are lost can
// count twice.
func TestNoUsageIsLost(t *testing.T) {
	server := redistest.StartLasting(t)
	both := startPair(t, server)
	want := ratelimit.Reservation{Limits: limittest.Limits(t, ratelimit.Spend, "$1000/month"), Spend: 1000}
	var sum atomic.Int64
	const clients, rounds = 4, 2
	stop := repeat(clients, func(i int) {
		res := want
		if err := both[i%2].Take(t.Context(), &res); err != nil || res.Denied != nil {
			t.Errorf("%v, denied by %v", err, res.Denied)
		}
		sum.Add(res.Spend)
		both[i%2].Settle(&res, 0, res.Spend)
	})
	for range rounds {
		for _, outage := range []struct{ begin, end func(*redistest.Server) }{
			{(*redistest.Server).Down, (*redistest.Server).Up}, {(*redistest.Server).Hang, (*redistest.Server).GoOn},
		} {
			outage.begin(server)
			for _, f := range both {
				eventually(t, "the server stays available", f.unavailable.Load)
			}
			n := sum.Load()
			eventually(t, "no request is granted during the outage", func() bool { return sum.Load() > n+50*want.Spend })
			outage.end(server)
			awaitAvailable(t, both)
		}
	}
	stop()
	counted := int64(0)
	eventually(t, "usage is lost", func() bool {
		if err := both[0].Limiter.Peek(t.Context(), &want); err != nil {
			t.Fatal(err)
		}
		counted = want.Limits[0].Rule.Limit - want.Left[0].Left
		return counted >= sum.Load()
	})
	t.Logf("%d requests; %d of them are counted twice", sum.Load()/want.Spend, (counted-sum.Load())/want.Spend)
	if more := counted - sum.Load(); more > 2*rounds*clients*want.Spend {
		t.Errorf("%d were granted, and %d are counted", sum.Load(), counted)
	}
}

// A thousand requests arrive at once, more than the server can answer in time. Those that a process decides by itself leave free
// what the others may be granted, so that at worst half of the limit is granted too much or too little.
func TestBurst(t *testing.T) {
	both := startPair(t, redistest.Start(t))
	for name, processes := range map[string][]Fallback{"one process": both[:1], "two processes": both[:]} {
		t.Run(name, func(t *testing.T) {
			for round := range 5 {
				rules := []ratelimit.Rule{limittest.Rule(t, ratelimit.Requests, "100/d"), limittest.Rule(t, ratelimit.Spend, "$1000/30d")}
				want := ratelimit.Reservation{Limits: ratelimit.New(name+strconv.Itoa(round), rules), Spend: ratelimit.Dollar}
				var count atomic.Int64
				var all sync.WaitGroup
				start := make(chan struct{})
				for i := range 1000 {
					all.Go(func() {
						<-start
						res := want
						if err := processes[i%len(processes)].Take(t.Context(), &res); err != nil {
							t.Error(err)
						}
						if res.Denied == nil {
							count.Add(1)
						}
					})
				}
				close(start)
				all.Wait()
				t.Logf("%d of 1000 were granted", count.Load())
				if count.Load() > 150 || count.Load() < 50 {
					t.Errorf("%d of 1000 were granted, want 100, and half of that more or less at worst", count.Load())
				}
				awaitAvailable(t, both)
			}
		})
	}
}
