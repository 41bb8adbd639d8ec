//go:build redis

package ratelimit

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// slowest runs takes and tells how long the slowest took.
func slowest(t *testing.T, f Fallback, want Reservation, n int) (worst time.Duration, failed int) {
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

// The server is stopped, started, hung and flushed while requests run: none stalls, and in the end the limit holds.
func TestSharedServerComesAndGoes(t *testing.T) {
	server := redistest.Start(t)
	stores := twoOf(t, server, requestTimeout)
	want := Reservation{Limits: append(limits(t, Requests, "1M/s"), limits(t, Concurrent, "9")...)}
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
	stores[0].wait, stores[1].wait = busy, busy
	fit := 0
	for range 20 {
		for _, s := range stores {
			if fits(t, s, Reservation{Limits: New("key/last", []Rule{rule(t, Requests, "10/d")})}) {
				fit++
			}
		}
	}
	if fit != 10 {
		t.Errorf("%d fit in the end, want 10", fit)
	}
}

// All that was granted while the server came and went is counted in the end, and nothing twice but what was under way when
// the answers were lost.
func TestSharedForgetsNothing(t *testing.T) {
	server := redistest.StartLasting(t)
	both := pair(t, server)
	want := Reservation{Limits: New("key/alice", []Rule{rule(t, Spend, "$1000/month")}), Spend: 1000}
	var granted atomic.Int64
	done := make(chan struct{})
	var all sync.WaitGroup
	const clients, rounds = 4, 2
	for i := range clients {
		all.Go(func() {
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				one := want
				if err := both[i%2].Take(t.Context(), &one); err != nil || one.Denied != nil {
					t.Error(err, one.Denied)
				}
				granted.Add(one.Spend)
				both[i%2].Settle(&one, 0, one.Spend)
			}
		})
	}
	for range rounds {
		for _, cut := range []struct{ away, back func(*redistest.Server) }{
			{(*redistest.Server).Down, (*redistest.Server).Up}, {(*redistest.Server).Hang, (*redistest.Server).GoOn},
		} {
			cut.away(server)
			for _, f := range both {
				soon(t, "nobody notices that it is away", f.Shared.away.Load)
			}
			n := granted.Load()
			soon(t, "nothing is granted while it is away", func() bool { return granted.Load() > n+50*want.Spend })
			cut.back(server)
			awaitReturn(t, both)
		}
	}
	close(done)
	all.Wait()
	counted := int64(0)
	soon(t, "something is forgotten", func() bool {
		if err := both[0].Shared.Peek(t.Context(), &want); err != nil {
			t.Fatal(err)
		}
		counted = want.Limits[0].Rule.Limit - want.Left[0].Left
		return counted >= granted.Load()
	})
	t.Logf("%d requests, %d were counted twice", granted.Load()/want.Spend, (counted-granted.Load())/want.Spend)
	if more := counted - granted.Load(); more > 2*rounds*clients*want.Spend {
		t.Errorf("%d were granted, and %d are counted", granted.Load(), counted)
	}
}

// A thousand ask at once, more than the server can answer in time. Those that a process decides by itself leave what the
// others may be given; what is not known at the server for an instant is half of the limit at worst.
func TestSharedBurst(t *testing.T) {
	both := pair(t, redistest.Start(t))
	for _, test := range []struct {
		name      string
		processes []Fallback
	}{
		{"one process", both[:1]},
		{"two processes", both[:]},
	} {
		t.Run(test.name, func(t *testing.T) {
			for round := range 5 {
				subject := test.name + strconv.Itoa(round)
				want := Reservation{Limits: New(subject, []Rule{rule(t, Requests, "100/d"), rule(t, Spend, "$1000/30d")}), Spend: Dollar}
				var fit, alone atomic.Int64
				var all sync.WaitGroup
				start := make(chan struct{})
				for i := range 1000 {
					all.Go(func() {
						<-start
						one := want
						if err := test.processes[i%len(test.processes)].Take(t.Context(), &one); err != nil {
							t.Error(err)
						}
						if one.Denied == nil {
							fit.Add(1)
						}
						if one.share > 0 {
							alone.Add(1)
						}
					})
				}
				close(start)
				all.Wait()
				t.Logf("%d of 1000 fit, %d were not answered in time", fit.Load(), alone.Load())
				if fit.Load() > 150 || fit.Load() < 50 {
					t.Errorf("%d of 1000 fit, want 100, a half more or less at worst", fit.Load())
				}
				awaitReturn(t, both)
			}
		})
	}
}
