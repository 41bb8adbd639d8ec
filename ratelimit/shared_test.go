//go:build redis

package ratelimit

import (
	"context"
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
	return server, twoOf(t, server, busy)
}

func twoOf(t *testing.T, server *redistest.Server, wait time.Duration) (stores [2]*Shared) {
	for i := range stores {
		stores[i] = newShared(connect(t, server), SharedConfig{})
		stores[i].wait = wait
		go stores[i].work()
		t.Cleanup(func() { stores[i].Close() })
	}
	return stores
}

// soon waits for something that happens in the background.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
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
	Take(context.Context, *Reservation) error
}, want Reservation) bool {
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
		want Reservation
		fit  int64
	}{
		{"requests", Reservation{Limits: limits(t, Requests, "60/d")}, 60},
		{"tokens", Reservation{Limits: limits(t, Tokens, "100k/d"), Tokens: 3000}, 33},
		{"places", Reservation{Limits: limits(t, Concurrent, "7")}, 7},
		{"sliding budget", Reservation{Limits: limits(t, Spend, "$20/30d"), Spend: Dollar / 3}, 60},
		{"monthly budget", Reservation{Limits: limits(t, Spend, "$20/month"), Spend: Dollar}, 20},
		{"all of several", Reservation{Limits: append(New("key/bob", []Rule{rule(t, Requests, "60/d")}), New("key/bob", []Rule{rule(t, Spend, "$20/30d")})...), Spend: Dollar}, 20},
		{"address", Reservation{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "10/d")}}}, 10},
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
	place := Reservation{Limits: limits(t, Concurrent, "1")}
	first := place
	if err := stores[0].Take(t.Context(), &first); err != nil || fits(t, stores[1], place) {
		t.Fatal("the place was given twice: ", err)
	}
	stores[0].Settle(&first, 0, 0)
	if !fits(t, stores[1], place) {
		t.Error("the place did not come free at once")
	}
	money := Reservation{Limits: limits(t, Spend, "$1/month"), Spend: Dollar}
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
	living, dead := newShared(connect(t, server), SharedConfig{}), newShared(connect(t, server), SharedConfig{})
	want := Reservation{Limits: limits(t, Concurrent, "2")}
	clock := patient{living, t}
	start := at("2026-11-25 12:00:00")
	held := want
	clock.take(start, &held)
	patient{dead, t}.take(start, &Reservation{Limits: want.Limits})
	if takes(clock, start.Add(leaseRenewal), 1, want) != 0 {
		t.Fatal("a third place of two")
	}
	living.renew()
	later := start.Add(leaseTTL + time.Second)
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
	if !fits(t, stores[0], Reservation{Limits: append(all, &Limit{Address: netip.MustParseAddr("192.0.2.1"), Rule: all[0].Rule}), Tokens: 10}) {
		t.Fatal("it does not fit")
	}
	if err := stores[0].beat(presenceTTL); err != nil {
		t.Fatal(err)
	}
	keys, err := stores[0].client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 8 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		ttl, err := stores[0].client.PTTL(t.Context(), key).Result()
		if err != nil || ttl <= 0 || ttl > 63*24*time.Hour {
			t.Errorf("%s is kept for %s, %v", key, ttl, err)
		}
	}
}

func BenchmarkShared(b *testing.B) {
	s := newShared(connect(b, redistest.Start(b)), SharedConfig{})
	s.wait = busy
	go s.work()
	defer s.Close()
	want := Reservation{Limits: New("key/alice", []Rule{rule(b, Requests, "1G/m"), rule(b, Tokens, "1G/m"), rule(b, Spend, "$1000/30d"), rule(b, Concurrent, "9")}), Tokens: 9}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Take(b.Context(), &want); err != nil {
			b.Fatal(err)
		}
		s.Settle(&want, 5, 3)
	}
}
