package admission

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// A told is what a server says, some seconds after the last time.
type told struct {
	after                     float64
	running, waiting, preempt int
}

// tell makes a queue observe a load.
func (g *group) tell(l Load) {
	l.Known, l.Asked, l.Own = true, time.Now(), g.queue.InFlight()
	g.queue.Observe(l)
}

// limit returns the limit of the group now.
func (g *group) limit() int { return g.queue.Capacity(&g.Rules).Slots }

// Slots are what the configuration, the server and the kind say, in this order, and never more than the configuration.
func TestSlotsByTheServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                                      string
		configured, initial, stated, foreign, own int
		want                                      int
	}{
		{"nothing known", 0, 0, 0, 0, 0, 0},
		{"kind alone", 0, 1, 0, 0, 0, 1},
		{"configured alone", 4, 0, 0, 0, 0, 4},
		{"server instead of kind", 0, 1, 4, 0, 0, 4},
		{"server has fewer than configured", 8, 0, 2, 0, 0, 2},
		{"server has more than configured", 2, 0, 8, 0, 0, 2},
		{"others have some", 0, 0, 4, 3, 2, 1},
		{"others have all", 0, 0, 4, 9, 0, 1},
		{"others have some of more than configured", 2, 0, 8, 5, 0, 2},
		{"others, and no slots known", 2, 0, 0, 5, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := groupsOf(1, tt.configured, 1)[0]
				g.SetInitial(tt.initial)
				g.queue.SetSlots(tt.stated)
				for range tt.own {
					g.take(&Slot{})
				}
				g.tell(Load{Running: tt.own + tt.foreign})
				if got := g.limit(); got != tt.want {
					t.Errorf("%d slots, want %d", got, tt.want)
				}
				if got := g.queue.Foreign(); got != tt.foreign {
					t.Errorf("%d requests of others, want %d", got, tt.foreign)
				}
			})
		})
	}
}

// Slots that the server does not state are learned: a queue inside of it that does not become shorter shows how many it has, interrupted
// requests that it had too many, and requests without such signs let it have more, slowly.
func TestLearnsSlots(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		own  int
		told []told
		want int
	}{
		{"nothing waits", 20, []told{{2, 20, 0, 0}, {2, 20, 0, 0}}, 0},
		{"a request has just arrived", 5, []told{{2, 4, 0, 0}, {2, 4, 1, 0}, {2, 5, 0, 0}, {2, 4, 1, 0}}, 0},
		{"requests keep arriving, and it takes them up", 9, []told{{2, 4, 1, 0}, {2, 6, 1, 0}, {2, 8, 1, 0}}, 0},
		{"the queue becomes shorter", 12, []told{{2, 8, 4, 0}, {2, 8, 3, 0}, {2, 8, 1, 0}}, 0},
		{"the queue stays", 12, []told{{2, 8, 4, 0}, {2, 8, 4, 0}}, 8},
		{"the queue stays, but it was not asked for long", 12, []told{{2, 8, 4, 0}, {60, 8, 4, 0}}, 0},
		{"it runs more than was known", 12, []told{{2, 8, 4, 0}, {2, 8, 4, 0}, {2, 10, 0, 0}}, 10},
		{"all slots suffice for a while", 8, []told{{2, 8, 4, 0}, {2, 8, 4, 0}, {2, 8, 0, 0}, {14, 8, 0, 0}}, 9},
		{"not all slots are used", 3, []told{{2, 8, 4, 0}, {2, 8, 4, 0}, {2, 3, 0, 0}, {14, 3, 0, 0}}, 8},
		{"many slots grow faster", 64, []told{{2, 64, 4, 0}, {2, 64, 4, 0}, {16, 64, 0, 0}}, 68},
		{"it interrupted requests before", 8, []told{{2, 8, 0, 7}, {2, 8, 0, 7}}, 0},
		{"it interrupts requests", 20, []told{{2, 20, 0, 7}, {2, 20, 0, 8}}, 18},
		{"it interrupted requests, most of which have ended", 20, []told{{2, 20, 0, 7}, {2, 3, 0, 8}}, 18},
		{"it interrupts the only request", 1, []told{{2, 1, 0, 7}, {2, 1, 0, 8}}, 1},
		{"it restarted and counts anew", 20, []told{{2, 20, 0, 7}, {2, 20, 0, 0}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := groupsOf(1, 0, 1)[0]
				for range tt.own {
					g.take(&Slot{})
				}
				for _, l := range tt.told {
					time.Sleep(time.Duration(l.after * float64(time.Second)))
					g.tell(Load{Learns: true, Running: l.running, Waiting: l.waiting, Preemptions: float64(l.preempt)})
				}
				if got := g.limit(); got != tt.want {
					t.Errorf("%d slots, want %d", got, tt.want)
				}
			})
		})
	}
}

// A server that refuses requests has as many as it can do. The slots that configuration allows stay the upper bound.
func TestRefusalsShrink(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 0, 1)[0]
	slots := make([]Slot, 20)
	for i := range slots {
		g.take(&slots[i])
	}
	for i := range 12 {
		g.queue.Overloaded()
		slots[i].Release(Usage{})
	}
	if got := g.limit(); got != 8 {
		t.Errorf("%d slots, want 8", got)
	}
	if g.take(&Slot{}) {
		t.Error("a ninth request got a slot")
	}
	g.Rules.SetLimit(4)
	if got := g.limit(); got != 4 {
		t.Errorf("%d slots, want 4 as configured", got)
	}
	alone := groupsOf(1, 0, 1)[0]
	alone.take(&slots[0])
	alone.queue.Overloaded() // by others' load, which says nothing about the slots
	if got := alone.limit(); got != 0 {
		t.Errorf("a lone refused request set %d slots", got)
	}
	g.queue.Forget()
	g.Rules.SetLimit(0)
	if got := g.limit(); got != 0 {
		t.Errorf("a new server has %d slots", got)
	}
}

// Requests of others end without notice, so what is known of them fades, and lets those go that wait because of them.
func TestForeignLoadFades(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 0, 4)[0]
		g.queue.SetSlots(4)
		g.take(&Slot{})
		g.tell(Load{Running: 4, Waiting: 1})
		_, waiting := enter(Normal, g)
		if waiting == nil {
			t.Fatal("a request got a slot that another client has")
		}
		defer waiting.Leave()
		for _, want := range []int{4, 4, 4, 3, 2, 1, 0} {
			if got := g.queue.Foreign(); got != want {
				t.Errorf("%d requests of others after %s, want %d", got, time.Since(g.queue.capacity.last.Asked), want)
			}
			time.Sleep(time.Second + time.Millisecond)
		}
		g.queue.Observe(Load{}) // the server does not answer any more
		select {
		case <-waiting.Granted():
		default:
			t.Error("the request still waits for requests that are long gone")
		}
	})
}

// Requests that were in flight when the server was asked are not foreign, even if they have ended since.
func TestOwnRequestsAreNotForeign(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 0, 1)[0]
	g.take(&Slot{})
	g.queue.Observe(Load{Known: true, Asked: time.Now(), Own: 3, Running: 3})
	if got := g.queue.Foreign(); got != 0 {
		t.Errorf("%d requests of others", got)
	}
	g.queue.Observe(Load{Known: true, Asked: time.Now().Add(-time.Minute), Running: 9}) // late
	if got := g.queue.Foreign(); got != 0 {
		t.Errorf("an old answer counts: %d requests of others", got)
	}
}

// Requests that need more tokens together than the server has space for wait, also if a slot is free; a request that is alone does not.
func TestTokensAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 8, 8)[0]
		take := func(prompt, output int) *Slot {
			slot := &Slot{Request: Request{Prompt: prompt, MaxOutput: output}}
			if !g.take(slot) {
				return nil
			}
			return slot
		}
		chats := []*Slot{take(2000, 100)} // before the space is known
		g.tell(Load{Running: 1, Tokens: 64_000})
		for range 6 {
			chats = append(chats, take(2000, 100))
		}
		if c := g.queue.Capacity(&g.Rules); c.Tokens != 7*2050 || c.MaxTokens != 57_600 {
			t.Errorf("%d tokens of %d", c.Tokens, c.MaxTokens)
		}
		if take(60_000, 100) != nil {
			t.Error("a long prompt took the space of the chats")
		}
		long := &Slot{Request: Request{Prompt: 60_000, MaxOutput: 100}}
		ticket, ok := Enqueue(long, true, []Place{g.place()})
		if !ok {
			t.Fatal("it cannot wait")
		}
		defer ticket.Leave()
		if f := ticket.Forecast(); f.Position != 1 {
			t.Errorf("it is at position %d, want 1", f.Position)
		}
		for i, chat := range chats {
			select {
			case <-ticket.Granted():
				t.Fatalf("it got its slot with %d chats at the server", len(chats)-i)
			default:
			}
			chat.Release(Usage{})
		}
		if <-ticket.Granted() != 0 || g.queue.InFlight() != 1 {
			t.Error("alone, it did not get a slot")
		}
		if take(100, 100) != nil {
			t.Error("a chat would evict it")
		}
		long.Release(Usage{})
		if c := g.queue.Capacity(&g.Rules); c.Tokens != 0 {
			t.Errorf("%d tokens are left", c.Tokens)
		}
	})
}

// Interrupted requests show that the tokens were estimated too low, and less of the space is used from then on, for a while.
func TestInterruptionsShrinkTheSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 8, 8)[0]
		most := func(preemptions float64) int {
			g.tell(Load{Tokens: 10_000, Preemptions: preemptions})
			return g.queue.Capacity(&g.Rules).MaxTokens
		}
		if got := most(3); got != 9000 {
			t.Errorf("at first %d", got)
		}
		time.Sleep(2 * time.Second)
		if got := most(4); got != 8100 {
			t.Errorf("after an interruption %d", got)
		}
		time.Sleep(30 * time.Second)
		if got := most(4); got != 8550 {
			t.Errorf("after half a minute %d", got)
		}
		time.Sleep(time.Minute)
		if got := most(4); got != 9000 {
			t.Errorf("after another minute %d", got)
		}
	})
}

// The slot of an abandoned request stays taken until the server has fewer requests than were sent to it, or the time is up.
func TestAbandonedSlots(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		running int
		want    int // slots that are taken
	}{
		{"the server has all", 3, 3},
		{"it has let go of one", 2, 2},
		{"it has let go of both", 1, 1},
		{"it has nothing", 0, 1}, // the third request holds its own slot
		{"it has more, of others", 4, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := groupsOf(1, 3, 3)[0]
				slots := make([]Slot, 3)
				for i := range slots {
					g.take(&slots[i])
				}
				left := []*Abandoned{slots[0].Abandon(Usage{}), slots[1].Abandon(Usage{})}
				g.tell(Load{}) // too soon: the requests may not have arrived
				if got := g.queue.InFlight(); got != 3 {
					t.Fatalf("%d slots are taken at once", got)
				}
				time.Sleep(2 * time.Second)
				g.tell(Load{Running: tt.running})
				if got := g.queue.InFlight(); got != tt.want {
					t.Errorf("%d slots are taken, want %d", got, tt.want)
				}
				for _, a := range left {
					a.Release()
					a.Release()
				}
				if got := g.queue.InFlight(); got != 1 {
					t.Errorf("%d slots are taken after the time is up, want 1", got)
				}
				slots[2].Release(Usage{})
				if got := g.queue.InFlight(); got != 0 || g.queue.inUse != nil {
					t.Errorf("%d slots are left", got)
				}
			})
		})
	}
}

// Whatever comes in whatever order, the slots in flight and their tokens stay within what was known when they were taken, and nothing is
// left at the end.
func TestCapacityHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		g := groupsOf(1, 6, 16)[0]
		var taken []*Slot
		var left []*Abandoned
		for range 20_000 {
			switch random.IntN(8) {
			case 0, 1, 2:
				slot := &Slot{Request: Request{Prompt: random.IntN(4000), MaxOutput: 1 + random.IntN(500)}}
				before := g.queue.Capacity(&g.Rules)
				if !g.take(slot) {
					break
				}
				taken = append(taken, slot)
				now := g.queue.Capacity(&g.Rules)
				if n := g.queue.InFlight(); n > 6 || n > before.Slots || n > 1 && now.MaxTokens > 0 && now.Tokens > now.MaxTokens {
					t.Fatalf("%d in flight, %+v", n, now)
				}
			case 3, 4:
				if n := len(taken); n > 0 {
					taken[n-1].Release(Usage{})
					taken = taken[:n-1]
				}
			case 5:
				if n := len(taken); n > 0 {
					left = append(left, taken[n-1].Abandon(Usage{}))
					taken = taken[:n-1]
				}
			case 6:
				if n := len(left); n > 0 {
					left[n-1].Release()
					left = left[:n-1]
				}
			case 7:
				time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				g.tell(Load{Learns: true, Running: random.IntN(8), Waiting: random.IntN(3), Tokens: random.IntN(2) * 8000, Preemptions: float64(random.IntN(2))})
			}
		}
		for _, slot := range taken {
			slot.Release(Usage{})
		}
		for _, a := range left {
			a.Release()
		}
		if n := g.queue.InFlight(); n != 0 || g.queue.inUse != nil || g.queue.tokens != 0 {
			t.Errorf("%d slots and %d tokens are left", n, g.queue.tokens)
		}
	})
}

// A slot without any limit costs as little as before limits were known.
func BenchmarkTake(b *testing.B) {
	for name, change := range map[string]func(*group){
		"no limit": func(*group) {},
		"limit":    func(g *group) { g.SetLimit(8) },
		"tokens":   func(g *group) { g.tell(Load{Tokens: 64_000}) },
		"foreign":  func(g *group) { g.queue.SetSlots(8); g.tell(Load{Running: 3}) },
	} {
		b.Run(name, func(b *testing.B) {
			g := groupsOf(1, 0, 8)[0]
			change(g)
			var slot Slot
			b.ReportAllocs()
			for b.Loop() {
				if !g.take(&slot) {
					b.Fatal("no slot")
				}
				slot.Release(Usage{})
			}
		})
	}
}
