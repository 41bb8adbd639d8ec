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

// groupsOf returns n groups of one replica each, with the given numbers of slots and of positions in the queue.
func groupsOf(n, slots, size int) (list []*Group) {
	for range n {
		g := &Group{Replicas: []*Replica{{}}, Queue: QueueConfig{Size: size}}
		g.SetLimit(slots)
		list = append(list, g)
	}
	return list
}

// enter takes a slot at one of the groups, or else a ticket for all of them. Both are nil if the queues are full.
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

// got returns the number of the place where the ticket got a slot, or "" if it did not.
func got(t *Ticket) string {
	select {
	case i := <-t.Granted():
		return strconv.Itoa(i)
	default:
		return ""
	}
}

// expectIdle fails the test unless a replica has the given number of requests in flight and none waiting.
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
		t.Fatal("the position of a request that left is not free")
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

// A request gets the first slot that is free at any replica, and then leaves the other queues.
func TestFirstFreeSlot(t *testing.T) {
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
		t.Errorf("the first request got %q, want 1, which was free first", at)
	}
	one.Leave()
	if at := got(two); at != "" {
		t.Errorf("the second request got %q although no slot is free", at)
	}
	a.Release()
	if at := got(two); at != "0" {
		t.Errorf("the second request got %q, want 0", at)
	}
	two.Leave()
	expectIdle(t, a, 1)
	expectIdle(t, b, 1)
}

// A slot that was granted to a ticket while it was leaving is not lost.
func TestLeaveReleasesTheSlot(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	r, _ := enter(Normal, g)
	_, ticket := enter(Normal, g)
	r.Release()
	ticket.Leave()
	expectIdle(t, r, 0)
}

// Two configurations may share a replica: requests of the stricter one wait, and a higher limit admits them.
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
		t.Fatal("a request overtook a waiting one")
	}
	narrow.SetLimit(2)
	if got(ticket) != "0" || got(behind) != "0" {
		t.Error("not admitted when the limit was raised")
	}
	ticket.Leave()
	behind.Leave()
}

// A line is the requests, by name, that wait for the one slot of a group.
type line struct {
	t       *testing.T
	group   *Group
	replica *Replica
	names   []string
	tickets []*Ticket
}

// fullLine returns a line whose slot is taken, and whose queue has the given size.
func fullLine(t *testing.T, size int, maxWait time.Duration) *line {
	t.Helper()
	g := groupsOf(1, 1, size)[0]
	g.Queue.MaxWait = maxWait
	r, _ := enter(Normal, g)
	return &line{t: t, group: g, replica: r}
}

// come adds a request. It reports whether the request got a position.
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

// leave ends the waits that are over, and returns the names of the requests that got a slot or, if displaced is set, lost their
// position.
func (l *line) leave(displaced bool) (names string) {
	for i := 0; i < len(l.tickets); i++ {
		select {
		case index := <-l.tickets[i].Granted():
			if (index < 0) != displaced {
				l.t.Errorf("%s got %d", l.names[i], index)
			}
			names += l.names[i]
			l.tickets[i].Leave()
			l.names, l.tickets = slices.Delete(l.names, i, i+1), slices.Delete(l.tickets, i, i+1)
			i--
		default:
		}
	}
	return names
}

// served releases the slot until no request waits, and returns the order in which the line is served.
func (l *line) served() (order string) {
	l.t.Helper()
	for len(l.tickets) > 0 {
		l.replica.Release()
		names := l.leave(false)
		if names == "" {
			l.t.Fatalf("no request got the slot; %v wait", l.names)
		}
		order += names
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
		{"no aging before a quarter of the wait", "l1 n1 9s h1", "h1n1l1"},
		{"a normal request moves up after a quarter", "l1 n1 11s h1 n2", "n1h1l1n2"},
		{"a low request moves up after a quarter", "l1 11s n1 h1", "h1l1n1"},
		{"a low request moves up again after a half", "l1 21s h1 n1", "l1h1n1"},
		{"after those that are already in the class", "l1 5s n1 6s n2", "n1l1n2"},
		{"the highest class does not age", "h1 60s h2 l1 60s h3", "h1h2l1h3"},
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

// In a full queue, a request displaces the last one of a lower class, unless that one has aged out of its class.
func TestFullQueueDisplaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := fullLine(t, 3, 40*time.Second)
		var got []string
		for _, step := range []struct {
			name string
			p    Priority
		}{{"l1", Low}, {"n1", Normal}, {"l2", Low}, {"l3", Low}, {"n2", Normal}, {"h1", High}, {"n3", Normal}, {"h2", High}, {"h3", High}, {"h4", High}} {
			result := "is rejected"
			if l.come(step.name, step.p) {
				result = "displaces " + l.leave(true)
			}
			got = append(got, step.name+" "+result)
		}
		want := []string{
			"l1 displaces ", "n1 displaces ", "l2 displaces ", "l3 is rejected", "n2 displaces l2", "h1 displaces l1", "n3 is rejected",
			"h2 displaces n2", "h3 displaces n1", "h4 is rejected",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := l.served(); got != "h1h2h3" {
			t.Errorf("served %s", got)
		}

		l = fullLine(t, 1, 40*time.Second)
		l.come("l1", Low)
		time.Sleep(21 * time.Second)
		if l.come("h1", High) {
			t.Error("a request lost its position although it had aged")
		}
		if got := l.served(); got != "l1" {
			t.Errorf("served %s", got)
		}
	})
}

// A configuration without a queue gets no position, even if requests of another one wait for the same replica.
func TestNoQueue(t *testing.T) {
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
			t.Errorf("ParsePriority(%q) = %v, %v", name, got, err)
		}
		if name != "" && want.String() != name {
			t.Errorf("String = %q, want %q", want, name)
		}
	}
	for _, name := range []string{"High", "critical", "2"} {
		if _, err := ParsePriority(name); err == nil {
			t.Errorf("ParsePriority accepted %q", name)
		}
	}
}

// A low request is served before its longest wait is over, however many requests of a higher class there are.
func TestNoClassStarves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const maxWait, work = time.Minute, time.Second
		l := fullLine(t, 8, maxWait)
		l.come("low", Low)
		begun := time.Now()
		for waited := time.Duration(0); waited < maxWait; waited = time.Since(begun) {
			for l.replica.slots.held < 8 { // keeps the queue full
				l.come("high", High)
			}
			time.Sleep(work)
			l.replica.Release()
			if l.leave(false) == "low" {
				if waited = time.Since(begun); waited > maxWait/2+8*work {
					t.Errorf("the low request waited for %s", waited)
				}
				return
			}
		}
		t.Error("the low request starved")
	})
}

// Many concurrent requests never exceed the limit; each is served or leaves, and no slot or position is left over.
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

// Many concurrent requests of all classes never exceed the limit or the size of the queue; each ends once, and no slot or position is
// left over.
func TestPrioritiesUnderLoad(t *testing.T) {
	t.Parallel()
	const limit, size = 2, 4
	gs := groupsOf(2, limit, size)
	var all sync.WaitGroup
	var served, lost, rejected atomic.Int64
	for i := range 300 {
		all.Go(func() {
			for range 100 {
				r, ticket := enter(Priority(rand.IntN(3)-1), gs[i%2], gs[1-i%2])
				if r == nil {
					if ticket == nil {
						rejected.Add(1)
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
				runtime.Gosched() // lets other requests come meanwhile
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
	t.Logf("%d were served, %d lost their position, %d were rejected", served.Load(), lost.Load(), rejected.Load())
	if served.Load() == 0 || lost.Load() == 0 || rejected.Load() == 0 {
		t.Error("the test needs requests of all three kinds")
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

// BenchmarkQueue measures how a slot passes from one request to the next in a full queue.
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
