package replica

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// groupsOf returns groups of one replica each, with so many slots and positions in the queue.
func groupsOf(n, slots, size int) (list []*Group) {
	for range n {
		g := &Group{Replicas: []*Replica{{}}, Queue: QueueConfig{Size: size}}
		g.SetLimit(slots)
		list = append(list, g)
	}
	return list
}

// enter takes a slot at one of the groups, or else a ticket for all of them; both are nil if the queues are full.
func enter(p Priority, groups ...*Group) (*Replica, *Ticket) {
	var places []Place
	for _, g := range groups {
		if g.Take(0, false) {
			return g.Replicas[0], nil
		}
		places = append(places, Place{g, 0})
	}
	ticket, _ := Enqueue(p, true, places)
	return nil, ticket
}

// got returns the number of the place where the ticket got a slot; "" if it did not.
func got(t *Ticket) string {
	select {
	case i := <-t.Granted():
		return strconv.Itoa(i)
	default:
		return ""
	}
}

// expectIdle fails unless a replica has so many requests in flight and nothing else.
func expectIdle(t *testing.T, r *Replica, inFlight int) {
	t.Helper()
	if r.InFlight() != inFlight || r.Waiting() != 0 || r.slots.held != 0 || len(r.slots.queue) != 0 {
		t.Errorf("%d in flight, want %d; %d waiting, %d hold a position", r.InFlight(), inFlight, r.Waiting(), r.slots.held)
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 3)[0]
	r, _ := enter(Normal, g)
	var tickets []*Ticket
	for range 3 {
		_, ticket := enter(Normal, g)
		tickets = append(tickets, ticket)
	}
	if r, ticket := enter(Normal, g); r != nil || ticket != nil {
		t.Fatal("a fourth request found a position in a queue of three")
	}
	tickets[1].Leave()
	_, late := enter(Normal, g)
	if late == nil {
		t.Fatal("the position that was left is not free")
	}
	tickets[1] = late
	r.Release()
	var order []int
	for range 3 {
		for i, ticket := range tickets {
			if got(ticket) == "0" {
				order = append(order, i)
				ticket.Leave()
				r.Release()
				break
			}
		}
	}
	if diff := cmp.Diff([]int{0, 2, 1}, order); diff != "" {
		t.Error(diff)
	}
	expectIdle(t, r, 0)
}

// A request waits for whichever replica is free first, and is in no other queue then.
func TestWaitsForWhicheverIsFreeFirst(t *testing.T) {
	t.Parallel()
	gs := groupsOf(2, 1, 1)
	a, _ := enter(Normal, gs...)
	b, _ := enter(Normal, gs...)
	_, one := enter(Normal, gs...)
	_, two := enter(Normal, gs...)
	if one == nil || two == nil {
		t.Fatal("two queues of one position each must hold two requests")
	}
	if _, three := enter(Normal, gs...); three != nil {
		t.Fatal("two queues of one position each hold three requests")
	}
	b.Release()
	if at := got(one); at != "1" {
		t.Errorf("the first one got %q, want 1, which was free first", at)
	}
	one.Leave()
	if at := got(two); at != "" {
		t.Errorf("the second one got %q, and nothing is free", at)
	}
	a.Release()
	if at := got(two); at != "0" {
		t.Errorf("the second one got %q, want 0", at)
	}
	two.Leave()
	expectIdle(t, a, 1)
	expectIdle(t, b, 1)
}

// A slot that a ticket got while it was leaving is not lost.
func TestLeaveReleasesTheSlot(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	r, _ := enter(Normal, g)
	_, ticket := enter(Normal, g)
	r.Release()
	ticket.Leave()
	expectIdle(t, r, 0)
}

// Two configurations of one replica: requests of the stricter one wait, and a raised limit admits them.
func TestGroupsShareAReplica(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	group := func(limit int) *Group {
		g := &Group{Replicas: []*Replica{r}, Queue: QueueConfig{Size: 4}}
		g.SetLimit(limit)
		return g
	}
	wide, narrow := group(3), group(1)
	for range 3 {
		enter(Normal, wide)
	}
	_, ticket := enter(Normal, narrow)
	r.Release()
	r.Release()
	if got(ticket) != "" {
		t.Error("admitted over its limit")
	}
	passed, behind := enter(Normal, wide)
	if passed != nil {
		t.Fatal("a request overtook the one that waits")
	}
	narrow.SetLimit(2)
	if got(ticket) != "0" || got(behind) != "0" {
		t.Error("not admitted when the limit was raised")
	}
	ticket.Leave()
	behind.Leave()
}

// A line is the requests that wait for the one slot of a group, by their names.
type line struct {
	t       *testing.T
	group   *Group
	replica *Replica
	names   []string
	tickets []*Ticket
}

// fullLine returns a line whose slot is taken, and whose queue has so many positions.
func fullLine(t *testing.T, size int, maxWait time.Duration) *line {
	t.Helper()
	g := groupsOf(1, 1, size)[0]
	g.Queue.MaxWait = maxWait
	r, _ := enter(Normal, g)
	return &line{t: t, group: g, replica: r}
}

// come adds a request; false if it found no position.
func (l *line) come(name string, p Priority) bool {
	l.t.Helper()
	r, ticket := enter(p, l.group)
	if r != nil {
		l.t.Fatal("a slot is free")
	}
	if ticket != nil {
		l.names, l.tickets = append(l.names, name), append(l.tickets, ticket)
	}
	return ticket != nil
}

// leave ends the waits that are over, and returns which requests got a slot, or, for displaced, lost their position.
func (l *line) leave(displaced bool) (who string) {
	for i := 0; i < len(l.tickets); i++ {
		select {
		case index := <-l.tickets[i].Granted():
			if (index < 0) != displaced {
				l.t.Errorf("%s got %d", l.names[i], index)
			}
			who += l.names[i]
			l.tickets[i].Leave()
			l.names, l.tickets = slices.Delete(l.names, i, i+1), slices.Delete(l.tickets, i, i+1)
			i--
		default:
		}
	}
	return who
}

// served releases the slot again and again, and returns the order in which the line is served.
func (l *line) served() (order string) {
	l.t.Helper()
	for len(l.tickets) > 0 {
		l.replica.Release()
		who := l.leave(false)
		if who == "" {
			l.t.Fatalf("no request got the slot; %v wait", l.names)
		}
		order += who
	}
	l.replica.Release()
	expectIdle(l.t, l.replica, 0)
	return order
}

func TestPriorityAging(t *testing.T) {
	t.Parallel()
	const quarter = 10 * time.Second
	class := map[rune]Priority{'h': High, 'n': Normal, 'l': Low}
	for _, test := range []struct{ name, come, order string }{
		{"first come, first served within a class", "n1 n2 n3", "n1n2n3"},
		{"the higher class first", "l1 n1 h1 l2 n2 h2", "h1h2n1n2l1l2"},
		{"less than a quarter of the wait does not age", "l1 n1 9s h1", "h1n1l1"},
		{"a normal one moves up after a quarter", "l1 n1 11s h1 n2", "n1h1l1n2"},
		{"a low one after a quarter", "l1 11s n1 h1", "h1l1n1"},
		{"and again after a half", "l1 21s h1 n1", "l1h1n1"},
		{"behind those who are in the class already", "l1 5s n1 6s n2", "n1l1n2"},
		{"nothing moves up beyond the highest", "h1 60s h2 l1 60s h3", "h1h2l1h3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := fullLine(t, 16, 4*quarter)
				for _, word := range strings.Fields(test.come) {
					if p, ok := class[rune(word[0])]; ok {
						l.come(word, p)
						continue
					}
					d, err := time.ParseDuration(word)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(d)
				}
				if got := l.served(); got != test.order {
					t.Errorf("served %s, want %s", got, test.order)
				}
			})
		})
	}
}

// In a full queue a request of a higher class displaces the last one of a lower, unless that one has aged out of it.
func TestFullQueueDisplaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := fullLine(t, 3, 40*time.Second)
		var told []string
		for _, step := range []struct {
			name string
			p    Priority
		}{{"l1", Low}, {"n1", Normal}, {"l2", Low}, {"l3", Low}, {"n2", Normal}, {"h1", High}, {"n3", Normal}, {"h2", High}, {"h3", High}, {"h4", High}} {
			came := "stays out"
			if l.come(step.name, step.p) {
				came = "for " + l.leave(true)
			}
			told = append(told, step.name+" "+came)
		}
		want := []string{"l1 for ", "n1 for ", "l2 for ", "l3 stays out", "n2 for l2", "h1 for l1", "n3 stays out", "h2 for n2", "h3 for n1", "h4 stays out"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		if got := l.served(); got != "h1h2h3" {
			t.Errorf("served %s", got)
		}

		l = fullLine(t, 1, 40*time.Second)
		l.come("l1", Low)
		time.Sleep(21 * time.Second)
		if l.come("h1", High) {
			t.Error("a request that had aged lost its position")
		}
		if got := l.served(); got != "l1" {
			t.Errorf("served %s", got)
		}
	})
}

// A configuration without a queue gets no position, whichever other requests wait for the same replica.
func TestNoQueueIsNoQueue(t *testing.T) {
	t.Parallel()
	l := fullLine(t, 2, time.Minute)
	l.come("l1", Low)
	other := &Group{Replicas: []*Replica{l.replica}}
	other.SetLimit(1)
	if _, ok := Enqueue(High, true, []Place{{other, 0}}); ok {
		t.Error("a queue without positions admitted a request")
	}
	if got := l.served(); got != "l1" {
		t.Errorf("served %s", got)
	}
}

func TestParsePriority(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Priority{"": Normal, "normal": Normal, "high": High, "low": Low} {
		if got, err := ParsePriority(name); err != nil || got != want {
			t.Errorf("%q is %v, %v", name, got, err)
		}
		if name != "" && want.String() != name {
			t.Errorf("%q is written %q", name, want)
		}
	}
	for _, name := range []string{"High", "critical", "2"} {
		if _, err := ParsePriority(name); err == nil {
			t.Errorf("%q is a priority", name)
		}
	}
}

// However many requests of a higher class come, a low one is served before its longest wait is over.
func TestNoClassStarves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const maxWait, work = time.Minute, time.Second
		l := fullLine(t, 8, maxWait)
		l.come("low", Low)
		begun := time.Now()
		for waited := time.Duration(0); waited < maxWait; waited = time.Since(begun) {
			for l.replica.slots.held < 8 { // the queue is always full of them
				l.come("high", High)
			}
			time.Sleep(work)
			l.replica.Release()
			if l.leave(false) == "low" {
				if waited = time.Since(begun); waited > maxWait/2+8*work {
					t.Errorf("it waited for %s", waited)
				}
				return
			}
		}
		t.Error("it starved")
	})
}

// However requests come, leave and are served: never more than the limit at once, each is served or leaves, nothing is left
// over.
func TestSlotsUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 2
		gs := groupsOf(2, limit, 64)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				for range 50 {
					r, ticket := enter(Normal, gs[i%2], gs[1-i%2])
					if r == nil {
						if i%3 == 0 {
							ticket.Leave()
							continue
						}
						at := <-ticket.Granted()
						ticket.Leave()
						r = gs[(i+at)%2].Replicas[0]
					}
					if n := r.InFlight(); n > limit {
						t.Errorf("%d at once, over the limit of %d", n, limit)
					}
					r.Release()
				}
			})
		}
		all.Wait()
		for _, g := range gs {
			expectIdle(t, g.Replicas[0], 0)
		}
	})
}

// However requests of all classes come, leave and displace others: never more than the limit at once, never more than the queue
// holds, each is told once, nothing is left over.
func TestPrioritiesUnderLoad(t *testing.T) {
	t.Parallel()
	const limit, size = 2, 4
	gs := groupsOf(2, limit, size)
	var all sync.WaitGroup
	var served, lost, out atomic.Int64
	for i := range 300 {
		all.Go(func() {
			for range 100 {
				r, ticket := enter(Priority(rand.IntN(3)-1), gs[i%2], gs[1-i%2])
				if r == nil {
					if ticket == nil {
						out.Add(1)
						runtime.Gosched()
						continue
					}
					if i%5 == 0 {
						ticket.Leave()
						continue
					}
					at := <-ticket.Granted()
					ticket.Leave()
					if at < 0 {
						lost.Add(1)
						continue
					}
					r = gs[(i+at)%2].Replicas[0]
				}
				runtime.Gosched() // so that others come meanwhile
				r.slots.mu.Lock()
				held := r.slots.held
				r.slots.mu.Unlock()
				if n := r.InFlight(); n > limit || held > size {
					t.Errorf("%d at once, over the limit of %d, or %d in a queue of %d", n, limit, held, size)
				}
				served.Add(1)
				r.Release()
			}
		})
	}
	all.Wait()
	t.Logf("%d were served, %d lost their position, %d found none", served.Load(), lost.Load(), out.Load())
	if served.Load() == 0 || lost.Load() == 0 || out.Load() == 0 {
		t.Errorf("%d were served, %d lost their position, %d found none", served.Load(), lost.Load(), out.Load())
	}
	for _, g := range gs {
		expectIdle(t, g.Replicas[0], 0)
	}
}

func BenchmarkSlot(b *testing.B) {
	g := groupsOf(1, 4, 0)[0]
	b.ReportAllocs()
	for b.Loop() {
		g.Take(0, false)
		g.Replicas[0].Release()
	}
}

// A slot goes from hand to hand in a queue of so many.
func BenchmarkQueue(b *testing.B) {
	for _, waiting := range []int{1, 64} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			g := groupsOf(1, 1, waiting)[0]
			r, _ := enter(Normal, g)
			line := make([]*Ticket, waiting)
			for i := range line {
				_, line[i] = enter(Normal, g)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % waiting {
				r.Release()
				<-line[i].Granted()
				line[i].Leave()
				_, line[i] = enter(Normal, g)
			}
		})
	}
}
