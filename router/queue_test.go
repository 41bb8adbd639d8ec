package router

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// limited is a plan of one pool, its upstreams with so many slots and places each.
func limited(t testing.TB, policy Policy, slots, places int, names ...string) (*Plan, []*Upstream) {
	t.Helper()
	us := upstreams(names...)
	var targets []Target
	for _, u := range us {
		u.Room.Places = places
		u.SetLimit(slots)
		targets = append(targets, Target{Upstream: u, Model: "m"})
	}
	pool, err := NewPool(policy, targets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Plan{Pools: []*Pool{pool}}, us
}

// enter takes a slot or a ticket.
func enter(t testing.TB, plan *Plan) (*Walk, *Candidate, *Ticket) {
	t.Helper()
	w := &Walk{Plan: plan}
	turn, ok := w.Next()
	if !ok {
		t.Fatal("nothing to try")
	}
	if c, ok := w.Take(turn); ok {
		return w, &c, nil
	}
	ticket, _ := w.Queue(turn)
	return w, nil, ticket
}

// got is the name of the upstream whose slot the ticket got; empty for none.
func got(w *Walk, t *Ticket) string {
	select {
	case i := <-t.Granted():
		return w.Took(t, i).Target.Upstream.Name
	default:
		return ""
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	plan, us := limited(t, LeastBusy, 1, 3, "a")
	_, running, _ := enter(t, plan)
	var walks []*Walk
	var tickets []*Ticket
	for range 3 {
		w, _, ticket := enter(t, plan)
		walks, tickets = append(walks, w), append(tickets, ticket)
	}
	if _, c, ticket := enter(t, plan); c != nil || ticket != nil {
		t.Fatal("a fourth one found a place in a room of three")
	}
	tickets[1].Leave() // it is gone at once, and its place is free
	w, _, late := enter(t, plan)
	if late == nil {
		t.Fatal("the place that was left is not free")
	}
	running.Replica.End()
	var order []int
	for range 3 {
		for i, ticket := range append(tickets, late) {
			if i != 1 && got(append(walks, w)[i], ticket) == "a" {
				order = append(order, i)
				ticket.Leave()
				us[0].Replicas[0].End()
				break
			}
		}
	}
	if diff := cmp.Diff([]int{0, 2, 3}, order); diff != "" {
		t.Error(diff)
	}
	if r := us[0].Replicas[0]; r.Open() != 0 || r.Waiting() != 0 || r.slots.seated != 0 {
		t.Errorf("left over: %d open, %d waiting, %d seated", r.Open(), r.Waiting(), r.slots.seated)
	}
}

// A request waits for whichever candidate frees first, and stands in no other line then.
func TestWaitsForWhicheverFreesFirst(t *testing.T) {
	t.Parallel()
	plan, us := limited(t, First, 1, 1, "a", "b")
	enter(t, plan)
	enter(t, plan)
	w1, _, one := enter(t, plan)
	w2, _, two := enter(t, plan)
	if one == nil || two == nil {
		t.Fatal("two rooms of one place each must hold two")
	}
	if _, _, three := enter(t, plan); three != nil {
		t.Fatal("two rooms of one place each hold three")
	}
	us[1].Replicas[0].End()
	if name := got(w1, one); name != "b" {
		t.Errorf("the first one got %q, want b, which was free first", name)
	}
	one.Leave()
	if name := got(w2, two); name != "" {
		t.Errorf("the second one got %q, and nothing is free", name)
	}
	us[0].Replicas[0].End()
	if name := got(w2, two); name != "a" {
		t.Errorf("the second one got %q, want a", name)
	}
	two.Leave()
	for _, u := range us {
		if r := u.Replicas[0]; r.Open() != 1 || r.Waiting() != 0 || r.slots.seated != 0 {
			t.Errorf("%s: %d open, %d waiting, %d seated", u.Name, r.Open(), r.Waiting(), r.slots.seated)
		}
	}
}

// A slot that a ticket got while it was leaving is not lost.
func TestLeavingGivesBack(t *testing.T) {
	t.Parallel()
	plan, us := limited(t, First, 1, 1, "a")
	_, running, _ := enter(t, plan)
	_, _, ticket := enter(t, plan)
	running.Replica.End()
	ticket.Leave()
	if n := us[0].Replicas[0].Open(); n != 0 {
		t.Errorf("%d slots are taken by nobody", n)
	}
}

func TestNoPolicyQueuesWhileASlotIsFree(t *testing.T) {
	t.Parallel()
	for _, policy := range Policies {
		plan, _ := limited(t, policy, 1, 8, "a", "b", "c")
		for i := range 3 {
			if _, c, _ := enter(t, plan); c == nil {
				t.Errorf("%s: request %d waits though a slot is free", policy, i+1)
			}
		}
	}
}

// Two configurations of one replica: the stricter one's requests wait, and a limit that is raised lets them in.
func TestLimitsAreRulesAndComeWithEachCall(t *testing.T) {
	t.Parallel()
	replica := &Replica{}
	plan := func(limit int) (*Plan, *Upstream) {
		u := &Upstream{Name: "a", Replicas: []*Replica{replica}, Room: Room{Places: 4}}
		u.SetLimit(limit)
		pool, err := NewPool(First, []Target{{Upstream: u}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return &Plan{Pools: []*Pool{pool}}, u
	}
	wide, _ := plan(3)
	narrow, u := plan(1)
	for range 3 {
		enter(t, wide)
	}
	w, _, ticket := enter(t, narrow)
	replica.End()
	replica.End()
	if got(w, ticket) != "" {
		t.Error("let in over its limit")
	}
	late, passed, behind := enter(t, wide)
	if passed != nil {
		t.Fatal("somebody went past the one who waits")
	}
	u.SetLimit(2)
	if got(w, ticket) != "a" || got(late, behind) != "a" {
		t.Error("not let in when the limit was raised")
	}
	ticket.Leave()
	behind.Leave()
}

// However requests come, leave and are served: never more than the limit at once, everyone is served or leaves, nothing is
// left over.
func TestSlotsUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 2
		plan, us := limited(t, LeastBusy, limit, 64, "a", "b")
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				for range 50 {
					w, c, ticket := enter(t, plan)
					if c == nil {
						if i%3 == 0 {
							ticket.Leave()
							continue
						}
						took := w.Took(ticket, <-ticket.Granted())
						ticket.Leave()
						c = &took
					}
					if n := c.Replica.Open(); n > limit {
						t.Errorf("%d at once, over the limit of %d", n, limit)
					}
					c.Replica.End()
				}
			})
		}
		all.Wait()
		for _, u := range us {
			if r := u.Replicas[0]; r.Open() != 0 || r.Waiting() != 0 || r.slots.seated != 0 || len(r.slots.queue) != 0 {
				t.Errorf("%s: %d open, %d waiting, %d seated", u.Name, r.Open(), r.Waiting(), r.slots.seated)
			}
		}
	})
}

func BenchmarkSlot(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.take(4)
		r.End()
	}
}

// A slot goes from hand to hand in a line of so many.
func BenchmarkQueue(b *testing.B) {
	for _, waiting := range []int{1, 64} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			plan, us := limited(b, LeastBusy, 1, waiting, "a")
			enter(b, plan)
			line := make([]*Ticket, waiting)
			for i := range line {
				_, _, line[i] = enter(b, plan)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % waiting {
				us[0].Replicas[0].End()
				<-line[i].Granted()
				line[i].Leave()
				_, _, line[i] = enter(b, plan)
			}
		})
	}
}
