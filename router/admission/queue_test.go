package admission

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

// A group is one replica under the rules of one configuration.
type group struct {
	Rules
	queue *Queue
}

func (g *group) place() Place { return Place{&g.Rules, g.queue, "m"} }

func (g *group) take(slot *Slot) bool { return g.queue.Take(&g.Rules, "m", slot) }

func (g *group) SetLimit(n int) {
	g.Rules.SetLimit(n)
	g.queue.Admit()
}

// groupsOf returns n groups of one replica each, with the given numbers of slots and of positions in the queue, which one caller may
// fill.
func groupsOf(n, slots, size int) (list []*group) {
	for range n {
		g := &group{queue: new(Queue), Rules: Rules{Queue: Config{Size: size, PerCaller: size}}}
		g.SetLimit(slots)
		list = append(list, g)
	}
	return list
}

// enter takes a slot at one of the groups, or else a ticket for all of them. Both are nil if the queues are full.
func enter(p Priority, groups ...*group) (*Slot, *Ticket) { return enterAs("", p, groups...) }

// enterAs is enter for the request of a key.
func enterAs(key string, p Priority, groups ...*group) (*Slot, *Ticket) {
	slot := &Slot{Request: Request{Caller: Caller{Key: key}, Priority: p}}
	var places []Place
	for _, g := range groups {
		if g.take(slot) {
			return slot, nil
		}
		places = append(places, g.place())
	}
	ticket, _ := Enqueue(slot, true, places)
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
func expectIdle(t *testing.T, r *Queue, inFlight int) {
	t.Helper()
	flows := 0
	for _, c := range r.classes {
		flows += len(c.flows)
	}
	if r.InFlight() != inFlight || r.Waiting() != 0 || r.held != 0 || flows != 0 {
		t.Errorf("%d in flight, want %d; %d waiting, %d hold a position, %d flows", r.InFlight(), inFlight, r.Waiting(), r.held, flows)
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 3)[0]
	slot, _ := enter(Normal, g)
	var tickets []*Ticket
	for range 3 {
		_, ticket := enter(Normal, g)
		tickets = append(tickets, ticket)
	}
	if slot, ticket := enter(Normal, g); slot != nil || ticket != nil {
		t.Fatal("a fourth request found a position in a queue of three")
	}
	tickets[1].Leave()
	_, late := enter(Normal, g)
	if late == nil {
		t.Fatal("the position of a request that left is not free")
	}
	tickets[1] = late
	slot.Release(Usage{})
	var order []int
	for range 3 {
		for i, ticket := range tickets {
			if got(ticket) == "0" {
				order = append(order, i)
				ticket.Leave()
				ticket.slot.Release(Usage{})
				break
			}
		}
	}
	if diff := cmp.Diff([]int{0, 2, 1}, order); diff != "" {
		t.Error(diff)
	}
	expectIdle(t, g.queue, 0)
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
	b.Release(Usage{})
	if at := got(one); at != "1" {
		t.Errorf("the first request got %q, want 1, which was free first", at)
	}
	one.Leave()
	if at := got(two); at != "" {
		t.Errorf("the second request got %q although no slot is free", at)
	}
	a.Release(Usage{})
	if at := got(two); at != "0" {
		t.Errorf("the second request got %q, want 0", at)
	}
	two.Leave()
	expectIdle(t, gs[0].queue, 1)
	expectIdle(t, gs[1].queue, 1)
}

// A slot that was granted to a ticket while it was leaving is not lost.
func TestLeaveReleasesTheSlot(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	slot, _ := enter(Normal, g)
	_, ticket := enter(Normal, g)
	slot.Release(Usage{})
	ticket.Leave()
	expectIdle(t, g.queue, 0)
}

// Two configurations may share a replica: requests of the stricter one wait, and a higher limit admits them.
func TestGroupsShareAReplica(t *testing.T) {
	t.Parallel()
	r := new(Queue)
	under := func(limit int) *group {
		g := &group{queue: r, Rules: Rules{Queue: Config{Size: 4}}}
		g.SetLimit(limit)
		return g
	}
	wide, narrow := under(3), under(1)
	var slots []*Slot
	for range 3 {
		slot, _ := enter(Normal, wide)
		slots = append(slots, slot)
	}
	_, ticket := enter(Normal, narrow)
	slots[0].Release(Usage{})
	slots[2].Release(Usage{})
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
	group   *group
	queue   *Queue
	slot    *Slot // the one that is taken
	names   []string
	tickets []*Ticket
}

// fullLine returns a line whose slot is taken, and whose queue has the given size.
func fullLine(t *testing.T, size int, maxWait time.Duration) *line {
	t.Helper()
	g := groupsOf(1, 1, size)[0]
	g.Queue.MaxWait = maxWait
	slot, _ := enter(Normal, g)
	return &line{t: t, group: g, queue: g.queue, slot: slot}
}

// come adds a request. It reports whether the request got a position.
func (l *line) come(name string, p Priority) bool { return l.comeAs("", name, p) }

// comeAs is come for the request of a key.
func (l *line) comeAs(key, name string, p Priority) bool {
	l.t.Helper()
	slot, ticket := enterAs(key, p, l.group)
	if slot != nil {
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
			if index >= 0 {
				l.slot = l.tickets[i].slot
			}
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
		l.slot.Release(Usage{})
		names := l.leave(false)
		if names == "" {
			l.t.Fatalf("no request got the slot; %v wait", l.names)
		}
		order += names
	}
	l.slot.Release(Usage{})
	expectIdle(l.t, l.queue, 0)
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
	other := &group{queue: l.queue}
	other.SetLimit(1)
	if _, ok := Enqueue(&Slot{Request: Request{Priority: High}}, true, []Place{other.place()}); ok {
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
			for l.queue.held < 8 { // keeps the queue full
				l.come("high", High)
			}
			time.Sleep(work)
			l.slot.Release(Usage{})
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
					slot, ticket := enterAs(strconv.Itoa(i%5), Normal, gs[i%2], gs[1-i%2])
					if slot == nil {
						if i%3 == 0 {
							ticket.Leave()
							continue
						}
						<-ticket.Granted()
						ticket.Leave()
						slot = ticket.slot
					}
					if n := slot.queue.InFlight(); n > limit {
						t.Errorf("%d at once, over the limit of %d", n, limit)
					}
					slot.Release(Usage{})
				}
			})
		}
		all.Wait()
		for _, g := range gs {
			expectIdle(t, g.queue, 0)
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
				slot, ticket := enterAs(strconv.Itoa(i%7), Priority(rand.IntN(3)-1), gs[i%2], gs[1-i%2])
				if slot == nil {
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
					slot = ticket.slot
				}
				runtime.Gosched() // lets other requests come meanwhile
				r := slot.queue
				r.mu.Lock()
				held := r.held
				r.mu.Unlock()
				if n := r.InFlight(); n > limit || held > size {
					t.Errorf("%d at once, over the limit of %d, or %d in a queue of %d", n, limit, held, size)
				}
				served.Add(1)
				slot.Release(Usage{Known: true, Prompt: rand.IntN(1000), Output: rand.IntN(1000)})
			}
		})
	}
	all.Wait()
	t.Logf("%d were served, %d lost their position, %d were rejected", served.Load(), lost.Load(), rejected.Load())
	if served.Load() == 0 || lost.Load() == 0 || rejected.Load() == 0 {
		t.Error("the test needs requests of all three kinds")
	}
	for _, g := range gs {
		expectIdle(t, g.queue, 0)
	}
}

// BenchmarkSlot measures a request that nobody waits for: with its forecast, and with what is learned from it.
func BenchmarkSlot(b *testing.B) {
	used := Usage{Known: true, Complete: true, Prompt: 1000, Output: 200, Prefill: time.Second, Decode: 5 * time.Second}
	b.Run("alone", func(b *testing.B) {
		g := groupsOf(1, 4, 0)[0]
		slot := Slot{Request: Request{Caller: Caller{Key: "alice"}, Prompt: 100}}
		b.ReportAllocs()
		for b.Loop() {
			g.take(&slot)
			slot.Release(Usage{})
		}
	})
	b.Run("learning", func(b *testing.B) {
		g := groupsOf(1, 4, 0)[0]
		slot := Slot{Request: Request{Caller: Caller{Key: "alice"}, Prompt: 100}}
		b.ReportAllocs()
		for b.Loop() {
			g.take(&slot)
			slot.Begun()
			slot.Release(used)
		}
	})
}

// A request that nobody waits for allocates nothing.
func TestSlotDoesNotAllocate(t *testing.T) {
	g := groupsOf(1, 4, 0)[0]
	slot := Slot{Request: Request{Caller: Caller{Key: "alice"}, Prompt: 100}}
	used := Usage{Known: true, Complete: true, Prompt: 1000, Output: 200, Prefill: time.Second, Decode: 5 * time.Second}
	if n := testing.AllocsPerRun(100, func() {
		g.take(&slot)
		slot.Begun()
		slot.Release(used)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkForecast measures the forecast for a request behind a full queue.
func BenchmarkForecast(b *testing.B) {
	for _, slots := range []int{1, 8, 256} {
		b.Run(strconv.Itoa(slots), func(b *testing.B) {
			g := groupsOf(1, slots, 64)[0]
			learned(g, 100)
			for range slots {
				enterAs("a", Normal, g)
			}
			for i := range 64 {
				enterAs(strconv.Itoa(i%10), Normal, g)
			}
			slot := Slot{Request: Request{Caller: Caller{Key: "alice"}, Prompt: 100}}
			places := []Place{g.place()}
			b.ReportAllocs()
			for b.Loop() {
				slot.Forecast(places)
			}
		})
	}
}

// BenchmarkQueue measures how a slot passes from one request to the next in a full queue of several callers.
func BenchmarkQueue(b *testing.B) {
	for _, waiting := range []int{1, 64, 4096} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			g := groupsOf(1, 1, waiting)[0]
			slot, _ := enter(Normal, g)
			line := make(map[*Slot]*Ticket, waiting)
			come := func(i int) {
				waits := &Slot{Request: Request{Caller: Caller{Key: strconv.Itoa(i % 100)}, Prompt: 100}}
				line[waits], _ = Enqueue(waits, true, []Place{g.place()})
			}
			for i := range waiting {
				come(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				slot.Release(Usage{Known: true, Prompt: 100, Output: 100})
				next := g.queue.inUse
				<-line[next].Granted()
				line[next].Leave()
				delete(line, next)
				slot = next
				come(i)
			}
		})
	}
}
