// Package admission decides which request gets the next slot of a server: it counts the slots in use, queues the requests that find none,
// shares the slots among callers by priority, weight and tokens, gives models that displace each other in the server's memory their turns,
// and forecasts how long a request will wait, from how fast the server was.
//
// It decides from plain values, which its callers feed: the limit of the slots, what the server says about its load, its capacity and the
// models in its memory, the tokens that requests are expected to use, and what they have really used. It sends nothing, and starts neither
// goroutines nor timers. It stands on the lowest floor and imports no other package of this project; router/replica stands above it.
package admission

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Slot is the right of one request to be at a replica. Its owner fills in the Request, gets the slot from Queue.Take or from a Ticket,
// and gives it back with Release. Afterwards it may be used again.
type Slot struct {
	Request
	queue      *Queue
	flow       *flow // that pays for it; nil if no request of the caller has waited since it was taken
	model      string
	cost       float64 // that the flow has paid
	promptCost float64 // by which it was computed
	tokens     int     // that it is expected to need at the server; only if the server's space for them is known
	taken      time.Time
	abandoned  bool  // its request has been given up
	cold       bool  // its model was not in memory when it was taken
	prev, next *Slot // in the list of slots in use
}

// A Queue is the requests in flight at a replica, and those that wait for it. All configurations that name the replica share it, so it
// holds facts only; the rules come with each request. Its lock is held for a few steps only, and never while anything is sent. A request
// that finds a free slot takes it without allocating. The zero value is ready to use.
type Queue struct {
	inFlight, waiting atomic.Int32 // written with the lock held
	foreign           atomic.Int32 // of the capacity; the same
	bounded           atomic.Bool  // what is known of the capacity bounds the requests in flight; the same
	mu                sync.Mutex
	inUse             *Slot // the list of slots in use
	tokens            int   // that their requests are expected to need; only if the server's space for them is known
	capacity          capacity
	classes           [len(priorities)]class
	// held is how many of the waiting requests hold a position in this replica's queue. The others hold one in another queue.
	held   int
	rates  rates
	models models
}

// Take takes a slot for a request of a model, if one is free and no request waits for it. Slot.Release gives it back.
func (s *Queue) Take(rules *Rules, model string, slot *Slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Load() > 0 || !s.hasRoom(s.limitOf(rules), model, &slot.Request) {
		return false
	}
	slot.model = model
	s.begin(slot)
	return true
}

// begin puts a slot into use. The caller holds the lock.
func (s *Queue) begin(slot *Slot) {
	slot.queue, slot.taken, slot.tokens = s, time.Now(), 0
	if s.capacity.tokens > 0 {
		slot.tokens = s.tokensOf(slot.model, &slot.Request)
	}
	s.link(slot)
	slot.cold = s.models.use(slot.model, s.isBusy)
}

// link adds a slot to those in use. The caller holds the lock.
func (s *Queue) link(slot *Slot) {
	slot.prev, slot.next = nil, s.inUse
	if s.inUse != nil {
		s.inUse.prev = slot
	}
	s.inUse = slot
	s.inFlight.Add(1)
	s.tokens += slot.tokens
}

// unlink takes a slot out of use. The caller holds the lock.
func (s *Queue) unlink(slot *Slot) {
	if slot.prev == nil {
		s.inUse = slot.next
	} else {
		slot.prev.next = slot.next
	}
	if slot.next != nil {
		slot.next.prev = slot.prev
	}
	slot.prev, slot.next = nil, nil
	s.inFlight.Add(-1)
	s.tokens -= slot.tokens
}

// IsCold reports whether the model was known not to be in memory when the request got its slot.
func (slot *Slot) IsCold() bool { return slot.cold }

// Release gives the slot back; the next waiting request, if any, gets it. Used is what the request has used, and how long that took.
func (slot *Slot) Release(used Usage) {
	s := slot.queue
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(slot, used)
	s.models.leaves(slot.model)
	s.unlink(slot)
	s.admit()
}

// settle learns from what a request has used, and lets its flow pay for that. The caller holds the lock.
func (s *Queue) settle(slot *Slot, used Usage) {
	s.rates.learn(slot.model, &slot.Request, used)
	if slot.flow != nil {
		if used.Known { // at the cost of a token that was expected: measured speeds change, and those that competed must pay alike
			cost := costOf(float64(used.Prompt-used.Cached), float64(used.Output), slot.promptCost)
			s.classes[slot.Priority-Low].charge(slot.flow, cost-slot.cost)
		}
		slot.flow = nil
	}
	slot.cost = 0
}

// An Abandoned is a slot whose request has been given up while the server may still be at work on it. It stays taken until the server has
// let go, as far as its load shows that, or until Release is called.
type Abandoned struct{ slot *Slot }

// Abandon gives the slot's request up, so that the slot may be used for another request, but it does not free its place at the server.
// Used is what the request has used.
func (slot *Slot) Abandon(used Usage) *Abandoned {
	s := slot.queue
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &Abandoned{&Slot{Request: slot.Request, queue: s, model: slot.model, tokens: slot.tokens, taken: slot.taken, abandoned: true}}
	s.settle(slot, used)
	s.unlink(slot)
	s.link(a.slot)
	return a
}

// Release frees the slot, unless that has been done.
func (a *Abandoned) Release() {
	s := a.slot.queue
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.slot.abandoned {
		s.free(a.slot)
		s.admit()
	}
}

// free takes an abandoned slot out of use. The caller holds the lock.
func (s *Queue) free(slot *Slot) {
	slot.abandoned = false
	s.unlink(slot)
}

// InFlight returns the number of requests that hold a slot.
func (s *Queue) InFlight() int { return int(s.inFlight.Load()) }

// Waiting returns the number of requests that wait for a slot here, including those that wait for other replicas as well.
func (s *Queue) Waiting() int { return int(s.waiting.Load()) }

// Admit gives free slots to waiting requests. It must be called when a limit has changed.
func (s *Queue) Admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit()
}

// admit gives free slots to waiting requests, in their order. The caller holds the lock.
func (s *Queue) admit() {
	for {
		c, e := s.next()
		if e == nil || !s.hasRoom(s.limitOf(e.rules), e.model, &e.ticket.slot.Request) {
			return
		}
		if e.ticket.claim() { // otherwise the request has left, or got a slot at another replica
			slot := e.ticket.slot
			slot.model, slot.flow, slot.cost, slot.promptCost = e.model, e.flow, e.cost, e.promptCost
			c.served(e)
			s.begin(slot)
			e.ticket.granted <- e.index
		}
		s.remove(e)
	}
}

// next returns the request that is served next, with its class: of those that are next in their classes, the one that is due first, or one
// that is served before it because its model is in memory.
func (s *Queue) next() (of *class, first *entry) {
	for i := len(s.classes) - 1; i >= 0; i-- {
		c := &s.classes[i]
		if len(c.backlog) == 0 {
			continue
		}
		if e := c.backlog[0].first; first == nil || e.due.Before(first.due) {
			of, first = c, e
		}
	}
	return s.keep(of, first)
}

// keep returns the request that is served before one that is next in order, with its class, because that one's model would have to be
// loaded; or that one itself. The caller holds the lock.
func (s *Queue) keep(c *class, e *entry) (*class, *entry) {
	m := &s.models
	if !m.known || e == nil || m.canServe(e.model) || m.isOver(e.model, e.arrived, e.maxWait) {
		return c, e
	}
	var of *class
	var first *entry
	for p := High; p >= e.ticket.slot.Priority; p-- {
		c := &s.classes[p-Low]
		if in := c.firstOf(m.canServe); in != nil && (first == nil || in.due.Before(first.due)) {
			of, first = c, in
		}
	}
	if first == nil {
		return c, e
	}
	return of, first
}

// join adds an entry to the queue. The caller holds the lock.
func (s *Queue) join(e *entry) {
	c := &s.classes[e.ticket.slot.Priority-Low]
	x := s.rates.of(e.model).expect(&e.ticket.slot.Request)
	e.cost, e.promptCost, e.service = x.cost, x.promptCost, x.service()
	c.learnCost(e.cost, s.limitOf(e.rules))
	e.flow = c.flowOf(s, e.ticket.slot)
	c.push(e)
	s.countArrival(c, e)
	s.waiting.Add(1)
}

// remove removes an entry from the queue, and frees its position. The caller holds the lock.
func (s *Queue) remove(e *entry) {
	if e.holds {
		e.holds = false
		s.held--
		e.flow.held--
	}
	s.classes[e.ticket.slot.Priority-Low].remove(e)
	if s.waiting.Add(-1) == 0 {
		s.models.wanted = time.Time{}
		s.passArrivals(time.Now())
	}
}

// leave removes an entry from the queue if it is still there, and gives free slots to those behind it.
func (s *Queue) leave(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.queued {
		s.remove(e)
		s.admit() // it may have been next, and waited for more than a slot
	}
}

// hold lets an entry join the queue with a position of its own. In a full queue it may displace another request.
func (s *Queue) hold(e *entry, displace bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, slot := e.rules.Queue, e.ticket.slot
	own := 0
	if f := s.classes[slot.Priority-Low].flows[slot.Caller]; f != nil {
		own = f.held
	}
	if own >= q.perCaller() {
		return false
	}
	if s.held >= q.Size {
		if !displace || s.held > q.Size || q.Size == 0 { // another configuration allows more
			return false
		}
		victim := s.victim(e, own)
		if victim == nil {
			return false
		}
		if victim.ticket.claim() {
			victim.ticket.granted <- displaced
		} // otherwise it got a slot at another replica and is about to leave
		s.remove(victim)
	}
	s.join(e)
	e.holds = true
	s.held++
	e.flow.held++
	s.admit() // a slot may have been released since this request asked for one
	return true
}

// follow lets an entry join the queue without a position, because it holds one in another queue.
func (s *Queue) follow(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.join(e)
	s.admit()
}

// victim returns the request that loses its position to an entry whose caller holds own positions: the last one of the caller that
// holds most, in the lowest class below the entry's, unless that request has aged and is due before the entry; or else in the same
// class, if its caller holds at least two positions more. It returns nil if no request has to give way.
func (s *Queue) victim(e *entry, own int) *entry {
	p := e.ticket.slot.Priority
	for class := Low; class <= p; class++ {
		var greediest *flow
		for _, f := range s.classes[class-Low].backlog {
			if greediest == nil || f.held > greediest.held || f.held == greediest.held && f.last.arrived.After(greediest.last.arrived) {
				greediest = f
			}
		}
		if greediest == nil || class == p && greediest.held < own+2 {
			continue
		}
		for last := greediest.last; last != nil; last = last.before {
			if last.holds {
				if class == p || last.due.After(e.due) {
					return last
				}
				break
			}
		}
	}
	return nil
}

// countArrival counts a request that joins the queue. The first one that waits says nothing about how often others come meanwhile. The
// caller holds the lock.
func (s *Queue) countArrival(of *class, e *entry) {
	if s.waiting.Load() > 0 {
		s.passArrivals(e.arrived)
		of.arrivals.count(e.ticket.slot.Caller, e.service, e.cost)
		return
	}
	for i := range s.classes {
		s.classes[i].arrivals.resume(e.arrived)
	}
}

// passArrivals adds the time until now to that for which requests waited. The caller holds the lock.
func (s *Queue) passArrivals(now time.Time) {
	for i := range s.classes {
		s.classes[i].arrivals.pass(now)
	}
}
