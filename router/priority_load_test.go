package router

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// However many of a higher class come, a low one is served before its longest wait is over.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const longest, work = time.Minute, time.Second
		l := fullLine(t, 8, longest)
		l.come("low", Low)
		begun := time.Now()
		for waited := time.Duration(0); waited < longest; waited = time.Since(begun) {
			for l.replica.slots.seated < 8 { // the room is always full of them
				l.come("high", High)
			}
			time.Sleep(work)
			l.replica.End()
			if l.leave(false) == "low" {
				if waited = time.Since(begun); waited > longest/2+8*work {
					t.Errorf("it waited for %s", waited)
				}
				return
			}
		}
		t.Error("it starved")
	})
}

// However requests of all classes come, leave and push others out: never more than the limit at once, never more than the room
// holds, everyone is told once, nothing is left over.
func TestPrioritiesUnderLoad(t *testing.T) {
	t.Parallel()
	const limit, places = 2, 4
	plan, us := limited(t, LeastBusy, limit, places, "a", "b")
	var all sync.WaitGroup
	var served, lost, out atomic.Int64
	for i := range 300 {
		all.Go(func() {
			for range 100 {
				w := &Walk{Plan: plan, Priority: Priority(rand.IntN(3) - 1)}
				turn, _ := w.Next()
				c, ok := w.Take(turn)
				if !ok {
					ticket, ok := w.Queue(turn)
					if !ok {
						out.Add(1)
						runtime.Gosched()
						continue
					}
					if i%5 == 0 {
						ticket.Leave()
						continue
					}
					index := <-ticket.Granted()
					ticket.Leave()
					if index < 0 {
						lost.Add(1)
						continue
					}
					c = w.Took(ticket, index)
				}
				r := c.Replica
				runtime.Gosched() // so that others come meanwhile
				r.slots.mu.Lock()
				seated := r.slots.seated
				r.slots.mu.Unlock()
				if n := r.Open(); n > limit || seated > places {
					t.Errorf("%d at once, over the limit of %d, or %d in a room of %d", n, limit, seated, places)
				}
				served.Add(1)
				r.End()
			}
		})
	}
	all.Wait()
	t.Logf("%d were served, %d lost their place, %d found none", served.Load(), lost.Load(), out.Load())
	if served.Load() == 0 || lost.Load() == 0 || out.Load() == 0 {
		t.Errorf("%d were served, %d lost their place, %d found none", served.Load(), lost.Load(), out.Load())
	}
	for _, u := range us {
		if r := u.Replicas[0]; r.Open() != 0 || r.Waiting() != 0 || r.slots.seated != 0 || len(r.slots.queue) != 0 {
			t.Errorf("%s: %d open, %d waiting, %d seated", u.Name, r.Open(), r.Waiting(), r.slots.seated)
		}
	}
}
