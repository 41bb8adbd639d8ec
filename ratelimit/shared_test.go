//go:build redis

package ratelimit

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// two gives what two processes have on one server.
func two(t *testing.T) (server *redistest.Server, stores [2]*Shared) {
	server = redistest.Start(t)
	for i := range stores {
		stores[i] = NewShared(connect(t, server), nil)
		t.Cleanup(func() { stores[i].Close() })
	}
	return server, stores
}

// soon waits for something that happens in the background.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal(what)
		}
	}
}

func fits(t *testing.T, l interface {
	Take(context.Context, *Take) error
}, want Take) bool {
	t.Helper()
	if err := l.Take(t.Context(), &want); err != nil {
		t.Error(err)
		return false
	}
	return want.Denied == nil
}

// Two processes hold one limit together, and not one request more fits.
func TestSharedHoldsExactly(t *testing.T) {
	_, stores := two(t)
	for _, test := range []struct {
		name string
		want Take
		fit  int64
	}{
		{"requests", Take{Limits: limits(t, Requests, "60/d")}, 60},
		{"tokens", Take{Limits: limits(t, Tokens, "100k/d"), Tokens: 3000}, 33},
		{"places", Take{Limits: limits(t, Concurrent, "7")}, 7},
		{"sliding budget", Take{Limits: limits(t, Spend, "$20/30d"), Spend: Dollar / 3}, 60},
		{"monthly budget", Take{Limits: limits(t, Spend, "$20/month"), Spend: Dollar}, 20},
		{"all of several", Take{Limits: append(New("key/bob", []Rule{rule(t, Requests, "60/d")}), New("key/bob", []Rule{rule(t, Spend, "$20/30d")})...), Spend: Dollar}, 20},
		{"address", Take{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "10/d")}}}, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			var fit atomic.Int64
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					for range 25 {
						if fits(t, stores[i%2], test.want) {
							fit.Add(1)
						}
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

// What one gives back, the other may take.
func TestSharedSettles(t *testing.T) {
	_, stores := two(t)
	place := Take{Limits: limits(t, Concurrent, "1")}
	first := place
	if err := stores[0].Take(t.Context(), &first); err != nil || fits(t, stores[1], place) {
		t.Fatal("the place was given twice: ", err)
	}
	stores[0].Settle(&first, 0, 0)
	if !fits(t, stores[1], place) {
		t.Error("the place did not come free at once")
	}
	money := Take{Limits: limits(t, Spend, "$1/month"), Spend: Dollar}
	first = money
	if err := stores[0].Take(t.Context(), &first); err != nil || fits(t, stores[1], money) {
		t.Fatal("the money was given twice: ", err)
	}
	stores[0].Settle(&first, 0, 0)
	stores[0].Settle(&first, 0, -Dollar) // a second time must not count
	soon(t, "the money did not come back", func() bool { return fits(t, stores[1], money) })
	if fits(t, stores[1], money) {
		t.Error("more came back than was taken")
	}
}

// The places of a process that died come free when its leases end; those of one that lives stay, whatever the server forgot.
func TestSharedLeases(t *testing.T) {
	server := redistest.Start(t)
	living, dead := newShared(connect(t, server), nil), newShared(connect(t, server), nil)
	want := Take{Limits: limits(t, Concurrent, "2")}
	clock := patient{living, t}
	start := at("2026-11-25 12:00:00")
	held := want
	clock.take(start, &held)
	patient{dead, t}.take(start, &Take{Limits: want.Limits})
	if takes(clock, start.Add(leaseRenewal), 1, want) != 0 {
		t.Fatal("a third place of two")
	}
	living.renew()
	later := start.Add(leaseLife + time.Second)
	one := want
	if clock.take(later, &one); one.Denied != nil || takes(clock, later, 1, want) != 0 {
		t.Error("one place must come free, and no more")
	}
	if err := living.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	living.renew()
	if takes(clock, later, 1, want) != 0 {
		t.Error("places of running requests were lost with the server's memory")
	}
}

// Every fact goes by itself.
func TestSharedFactsExpire(t *testing.T) {
	_, stores := two(t)
	all := New("key/alice", []Rule{rule(t, Requests, "10/m"), rule(t, Tokens, "1k/d"), rule(t, Spend, "$1/h"), rule(t, Spend, "$1/day"), rule(t, Spend, "$1/month"), rule(t, Concurrent, "9")})
	if !fits(t, stores[0], Take{Limits: append(all, &Limit{Address: netip.MustParseAddr("192.0.2.1"), Rule: all[0].Rule}), Tokens: 10}) {
		t.Fatal("it does not fit")
	}
	keys, err := stores[0].client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 7 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		ttl, err := stores[0].client.PTTL(t.Context(), key).Result()
		if err != nil || ttl <= 0 || ttl > 63*24*time.Hour {
			t.Errorf("%s is kept for %s, %v", key, ttl, err)
		}
	}
}

// slowest runs takes and tells how long the slowest took.
func slowest(t *testing.T, f Fallback, want Take, n int) (worst time.Duration, failed int) {
	for range n {
		one, start := want, time.Now()
		if f.Take(t.Context(), &one) != nil {
			failed++
		}
		f.Settle(&one, 0, 0)
		worst = max(worst, time.Since(start))
	}
	return worst, failed
}

// stalled is longer than any request may wait for the server, on a machine that is busy.
const stalled = 150 * time.Millisecond

// Whatever becomes of the server, no request waits for it for long; the limits go on from where they were last seen, and hold
// again when it is back.
func TestSharedServerIsAway(t *testing.T) {
	for _, test := range []struct {
		name     string
		away     func(*redistest.Server)
		back     func(*redistest.Server)
		forgets  bool
		together int // of 10 a day, of which 4 are used before, and 1 while it is away
	}{
		{"stopped", (*redistest.Server).Down, (*redistest.Server).Up, true, 10},
		{"hung", (*redistest.Server).Hang, (*redistest.Server).GoOn, false, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, stores := two(t)
			f := Fallback{Shared: stores[0], Local: NewMemory()}
			strict := Fallback{Shared: stores[1]}
			want := Take{Limits: limits(t, Requests, "10/d")}
			for range 4 {
				if !fits(t, f, want) {
					t.Fatal("it does not fit")
				}
			}
			test.away(server)
			if took, failed := slowest(t, strict, want, 100); took > stalled || failed != 100 {
				t.Errorf("deny: the slowest took %s, %d of 100 were denied", took, failed)
			}
			fit := 0
			for range 20 {
				start := time.Now()
				if fits(t, f, want) {
					fit++
				}
				if took := time.Since(start); took > stalled {
					t.Errorf("allow: one took %s", took)
				}
			}
			if fit != 6 {
				t.Errorf("allow: %d fit while it is away, want the 6 that were left", fit)
			}
			test.back(server)
			soon(t, "it is not used again", func() bool { return !stores[0].away.Load() && !stores[1].away.Load() })
			for fit = 0; fits(t, f, want); fit++ {
				if !fits(t, strict, want) {
					break
				}
				fit++
			}
			// What was asked just before it hung may have arrived.
			if fit > test.together || fit < test.together-2 {
				t.Errorf("%d fit together, want %d", fit, test.together)
			}
		})
	}
}

// The server is stopped, started, hung and flushed while requests run: none stalls, and in the end the limit holds.
func TestSharedServerComesAndGoes(t *testing.T) {
	server, stores := two(t)
	want := Take{Limits: append(limits(t, Requests, "1M/s"), limits(t, Concurrent, "9")...)}
	var worst atomic.Int64
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range 8 {
		f := Fallback{Shared: stores[i%2], Local: NewMemory()}
		all.Go(func() {
			pace := time.NewTicker(time.Millisecond) // or they would keep each other from the processors
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				took, failed := slowest(t, f, want, 1)
				if failed > 0 {
					t.Error("a request was refused")
				}
				if took := int64(took); took > worst.Load() {
					worst.Store(took)
				}
			}
		})
	}
	used := func() bool { return !stores[0].away.Load() && !stores[1].away.Load() }
	unused := func() bool { return stores[0].away.Load() && stores[1].away.Load() }
	for range 3 {
		server.Down()
		soon(t, "nobody notices that it is down", unused)
		server.Up()
		soon(t, "it is not used again", used)
		server.Hang()
		soon(t, "nobody notices that it hangs", unused)
		server.GoOn()
		soon(t, "it is not used again", used)
		client := connect(t, server)
		if err := errors.Join(client.FlushAll(t.Context()).Err(), client.ScriptFlush(t.Context()).Err()); err != nil {
			t.Error(err)
		}
	}
	close(done)
	all.Wait()
	// A request takes and settles.
	t.Logf("the slowest request waited %s", time.Duration(worst.Load()))
	if worst := time.Duration(worst.Load()); worst > 2*stalled {
		t.Errorf("the slowest request waited %s", worst)
	}
	soon(t, "it is not used again", used)
	fit := 0
	for range 20 {
		for _, s := range stores {
			if fits(t, s, Take{Limits: New("key/last", []Rule{rule(t, Requests, "10/d")})}) {
				fit++
			}
		}
	}
	if fit != 10 {
		t.Errorf("%d fit in the end, want 10", fit)
	}
}

func BenchmarkShared(b *testing.B) {
	s := NewShared(connect(b, redistest.Start(b)), nil)
	defer s.Close()
	want := Take{Limits: New("key/alice", []Rule{rule(b, Requests, "1G/m"), rule(b, Tokens, "1G/m"), rule(b, Spend, "$1000/30d"), rule(b, Concurrent, "9")}), Tokens: 9}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Take(b.Context(), &want); err != nil {
			b.Fatal(err)
		}
		s.Settle(&want, 5, 3)
	}
}
