//go:build redis

package ratelimit

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// pair gives two processes that know of each other, each with what decides while the server is away.
func pair(t *testing.T, server *redistest.Server) (both [2]Fallback) {
	t.Helper()
	for i, s := range twoOf(t, server, requestTimeout) {
		both[i] = Fallback{Shared: s, Local: NewMemory()}
	}
	for _, f := range both {
		soon(t, "the processes do not hear of each other", func() bool { return f.Shared.share() == 2 })
	}
	return both
}

// awaitReturn waits until the server is used again.
func awaitReturn(t *testing.T, both [2]Fallback) {
	t.Helper()
	for _, f := range both {
		soon(t, "it is not used again", func() bool { return !f.Shared.away.Load() })
	}
}

// fitting tells how many of n fit, of which none may wait for long.
func fitting(t *testing.T, f Fallback, want Reservation, n int) (fit int) {
	t.Helper()
	for range n {
		start := time.Now()
		if fits(t, f, want) {
			fit++
		}
		if took := time.Since(start); took > stalled {
			t.Errorf("one took %s", took)
		}
	}
	return fit
}

// While the server is away, each of two processes grants its half of what was left when it last asked; when it is back, what
// they granted is used, and the limit has held all the time. No request waits for long.
func TestSharedServerIsAway(t *testing.T) {
	down, up := (*redistest.Server).Down, (*redistest.Server).Up
	for _, test := range []struct {
		name       string
		setup      redistest.Setup
		away, back func(*redistest.Server)
		left       int // of 20, of which 6 were used before
	}{
		{"started anew", redistest.Setup{Lasting: true}, down, up, 0},
		{"started anew with nothing", redistest.Setup{}, down, up, 6},
		{"hung", redistest.Setup{}, (*redistest.Server).Hang, (*redistest.Server).GoOn, 0},
		{"Valkey", redistest.Setup{Binary: "valkey-server", Lasting: true}, down, up, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := test.setup.Start(t)
			both, wants := pair(t, server), []Reservation{
				{Limits: New("key/alice", []Rule{rule(t, Requests, "20/d")})},
				{Limits: New("key/alice", []Rule{rule(t, Tokens, "2k/d")}), Tokens: 100},
				{Limits: New("key/alice", []Rule{rule(t, Spend, "$20/30d")}), Spend: Dollar},
				{Limits: New("key/alice", []Rule{rule(t, Spend, "$20/month")}), Spend: Dollar},
				{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "20/d")}}},
			}
			both[0].Shared.wait, both[1].Shared.wait = busy, busy
			for _, want := range wants {
				for _, f := range [...]Fallback{both[0], both[0], both[0], both[0], both[1], both[0]} {
					if !fits(t, f, want) {
						t.Fatal("it does not fit")
					}
				}
			}
			both[0].Shared.wait, both[1].Shared.wait = requestTimeout, requestTimeout
			test.away(server)
			for _, want := range wants {
				if a, b := fitting(t, both[0], want, 20), fitting(t, both[1], want, 20); a != 7 || b != 7 {
					t.Errorf("%s: %d and %d fit while it is away, want the halves of 14", want.Limits[0].Rule, a, b)
				}
			}
			test.back(server)
			awaitReturn(t, both)
			both[0].Shared.wait, both[1].Shared.wait = busy, busy
			for _, want := range wants {
				fit := 0
				for n := range 20 {
					if fits(t, both[n%2], want) {
						fit++
					}
				}
				if fit != test.left {
					t.Errorf("%s: %d fit when it is back, want %d", want.Limits[0].Rule, fit, test.left)
				}
			}
		})
	}
}

// Requests may begin while the server is there and end while it is away, and the other way round: what they used counts, once.
func TestSharedSettlesAcrossAnOutage(t *testing.T) {
	server := redistest.StartLasting(t)
	f := pair(t, server)[0]
	f.Shared.wait = busy // an answer that comes too late would leave what it took reserved
	of := func(key string) Reservation {
		return Reservation{Limits: New(key, []Rule{rule(t, Spend, "$20/month"), rule(t, Concurrent, "4")}), Spend: 4 * Dollar}
	}
	before, within, after := of("before"), of("within"), of("after")
	take := func(one *Reservation) {
		t.Helper()
		if err := f.Take(t.Context(), one); err != nil || one.Denied != nil {
			t.Fatal(err, one.Denied)
		}
	}
	take(&before)
	server.Down()
	take(&within)
	take(&after)
	f.Settle(&before, 0, Dollar)
	f.Settle(&within, 0, 2*Dollar)
	if f.Settle(&within, 0, 3*Dollar); f.Shared.held[after.lease] == nil || len(f.Shared.held) != 1 {
		t.Errorf("places are held by %v", f.Shared.held)
	}
	server.Up()
	soon(t, "it is not used again", func() bool { return !f.Shared.away.Load() })
	running := of("after")
	if err := f.Peek(t.Context(), &running); err != nil || running.Left[0].Left != 16*Dollar || running.Left[1].Left != 3 {
		t.Errorf("while it runs %v are left, %v", running.Left, err)
	}
	f.Settle(&after, 0, 3*Dollar)
	for key, want := range map[string]int64{"before": 19, "within": 18, "after": 17} {
		var one Reservation
		soon(t, "it is not settled: "+key, func() bool {
			one = of(key)
			return f.Peek(t.Context(), &one) == nil && one.Left[0].Left == want*Dollar
		})
		if one.Left[1].Left != 4 {
			t.Errorf("%s: %d places are free, want 4", key, one.Left[1].Left)
		}
	}
}

// A payment whose answer is lost is sent again, and counts once.
func TestSharedDebtsArePaidOnce(t *testing.T) {
	server := redistest.Start(t)
	s := newShared(server.Client(t), SharedConfig{})
	told := 0
	one := Reservation{Limits: New("key/alice", []Rule{rule(t, Spend, "$20/30d"), rule(t, Requests, "20/d")}), Spend: 16 * Dollar, At: time.Now(),
		Crossed: func(_ *Limit, percent int) { told += percent }}
	s.offlineUsage.add(&one)
	server.Hang()
	for range 3 {
		if s.pay() == nil {
			t.Fatal("the server was to hang")
		}
	}
	server.GoOn()
	if err := s.pay(); err != nil {
		t.Fatal(err)
	}
	s.away.Store(false)
	left := Reservation{Limits: one.Limits}
	if err := s.Peek(t.Context(), &left); err != nil || left.Left[0].Left != 4*Dollar || left.Left[1].Left != 19 {
		t.Errorf("%v are left, %v", left.Left, err)
	}
	if told != 0 && told != 80 {
		t.Errorf("%d percent were told", told)
	}
}

// A process that ends is not counted any more; one that dies, not for long.
func TestSharedPresence(t *testing.T) {
	server := redistest.Start(t)
	a, b := newShared(connect(t, server), SharedConfig{}), NewShared(connect(t, server), SharedConfig{})
	soon(t, "they do not hear of each other", func() bool { return a.beat(presenceTTL) == nil && a.share() == 2 })
	b.Close()
	if err := a.beat(presenceTTL); err != nil || a.share() != 1 {
		t.Errorf("%d are there after one has ended, %v", a.share(), err)
	}
	if at, err := a.client.TTL(t.Context(), sharedPrefix+"present").Result(); err != nil || at < presenceTTL {
		t.Errorf("it is kept for %s, %v", at, err)
	}
	c := newShared(connect(t, server), SharedConfig{})
	start := at("2026-11-25 12:00:00")
	c.clock = strconv.FormatInt(start.UnixMicro(), 10)
	a.clock = strconv.FormatInt(start.Add(presenceTTL+time.Second).UnixMicro(), 10)
	if err := errors.Join(a.client.FlushAll(t.Context()).Err(), c.beat(presenceTTL), a.beat(presenceTTL)); err != nil || a.share() != 1 {
		t.Errorf("%d are there after one has died, %v", a.share(), err)
	}
}

// A process that has heard nothing yet goes by what was known before it, and then by what it hears.
func TestSharedPresenceIsRemembered(t *testing.T) {
	server := redistest.Start(t)
	var heard []int64
	s := newShared(connect(t, server), SharedConfig{Sharers: 4, Heard: func(n int64) { heard = append(heard, n) }})
	s.away.Store(true)
	f := Fallback{Shared: s, Local: NewMemory()}
	if fit := takesOf(t, f, 20, "12/d"); fit != 3 {
		t.Errorf("%d fit, want a quarter of 12", fit)
	}
	if err := s.beat(presenceTTL); err != nil || s.share() != 1 || len(heard) != 1 || heard[0] != 1 {
		t.Errorf("%v; %d are there, heard are %v", err, s.share(), heard)
	}
	if err := s.beat(0); err != nil || len(heard) != 1 {
		t.Errorf("%v; who takes leave hears %v", err, heard)
	}
}

// takesOf tells how many of so many requests fit a rate.
func takesOf(t *testing.T, f Fallback, tries int, rate string) (fit int) {
	t.Helper()
	for range tries {
		take := Reservation{Limits: limits(t, Requests, rate)}
		if err := f.Take(t.Context(), &take); err != nil {
			t.Fatal(err)
		}
		if take.Denied == nil {
			fit++
		}
	}
	return fit
}

// Whatever a server answers that is none, such as one that is full, starting, or a replica, it counts as away.
func TestSharedServerRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		setup  redistest.Setup
		harm   []any
		says   string
		mended []any
	}{
		{"full", redistest.Setup{Args: []string{"--maxmemory-policy", "noeviction"}}, []any{"CONFIG", "SET", "maxmemory", "1"}, "OOM", []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"replica", redistest.Setup{}, []any{"REPLICAOF", "127.0.0.1", "1"}, "READONLY", []any{"REPLICAOF", "NO", "ONE"}},
		{"not allowed", redistest.Setup{}, []any{"ACL", "SETUSER", "default", "-evalsha", "-eval"}, "NOPERM", []any{"ACL", "SETUSER", "default", "+evalsha", "+eval"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := test.setup.Start(t)
			client, said := server.Client(t), make(chan error, 100)
			s := NewShared(connect(t, server), SharedConfig{Report: func(err error) { said <- err }})
			t.Cleanup(func() { s.Close() })
			f, want := Fallback{Shared: s, Local: NewMemory()}, Reservation{Limits: limits(t, Requests, "20/d")}
			if fitting(t, f, want, 4) != 4 {
				t.Fatal("it does not fit")
			}
			if err := client.Do(t.Context(), test.harm...).Err(); err != nil {
				t.Fatal(err)
			}
			if fit := fitting(t, f, want, 20); fit != 16 {
				t.Errorf("%d fit, want the 16 that were left", fit)
			}
			if err := <-said; err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %v, want %s", err, test.says)
			}
			if err := client.Do(t.Context(), test.mended...).Err(); err != nil {
				t.Fatal(err)
			}
			if err := <-said; err != nil {
				t.Errorf("it says %v", err)
			}
			if fit := fitting(t, f, want, 4); fit != 0 {
				t.Errorf("%d fit when it is back, want 0", fit)
			}
		})
	}
}

// stalled is far beyond the 50 ms that a request waits for the server, on whatever machine, and what it would wait for one that
// hangs without that is far beyond stalled.
const stalled = busy / 4
