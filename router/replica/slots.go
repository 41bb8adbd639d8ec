package replica

import (
	"slices"
	"sync"
	"sync/atomic"
)

// slots counts the requests in flight at a replica, and queues those that wait for it in the order in which they are due.
type slots struct {
	// counts has the number of waiting requests in its high half and of those in flight in its low half: one word, so that no
	// request can slip in between the release of a slot and the waiting request that is to get it.
	counts atomic.Uint64
	mu     sync.Mutex
	queue  []*entry
	// held is how many of the waiting requests hold a position of this replica's queue; the others hold one of another's.
	held int
}

// oneWaiting is one waiting request in the counts.
const oneWaiting = 1 << 32

// take takes a slot if one is free and nobody waits for it: without contention one load and one exchange.
func (r *Replica) take(limit int) bool {
	for {
		n := r.slots.counts.Load()
		if n >= oneWaiting || limit > 0 && n >= uint64(limit) {
			return false
		}
		if r.slots.counts.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// takeNext takes a slot for the first of the waiting requests.
func (r *Replica) takeNext(limit int) bool {
	for {
		n := r.slots.counts.Load()
		if limit > 0 && uint64(uint32(n)) >= uint64(limit) {
			return false
		}
		if r.slots.counts.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a slot back: to the first waiting request, if there is one.
func (r *Replica) Release() {
	if r.slots.counts.Add(^uint64(0)) >= oneWaiting {
		r.admit()
	}
}

// InFlight returns the number of requests that hold a slot.
func (r *Replica) InFlight() int { return int(uint32(r.slots.counts.Load())) }

// Waiting returns the number of requests that wait for a slot here, including those that wait for other replicas as well.
func (r *Replica) Waiting() int { return int(r.slots.counts.Load() >> 32) }

// admit gives free slots to waiting requests, in their order.
func (r *Replica) admit() {
	s := &r.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		first := s.queue[0]
		if !r.takeNext(first.group.Limit()) {
			return
		}
		s.remove(0)
		if !first.ticket.settle(first.index) {
			s.counts.Add(^uint64(0)) // it has left, or got a slot elsewhere
		}
	}
}

// join queues an entry behind all that are due before it.
func (r *Replica) join(e *entry) {
	s := &r.slots
	s.mu.Lock()
	at := len(s.queue)
	for at > 0 && s.queue[at-1].due.After(e.due) {
		at--
	}
	s.queue = slices.Insert(s.queue, at, e)
	s.counts.Add(oneWaiting)
	s.mu.Unlock()
	r.admit() // a slot may have been released since this request asked for one
}

// leave removes an entry from the queue if it is still there, and frees its position.
func (s *slots) leave(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.holds {
		s.held--
	}
	if i := slices.Index(s.queue, e); i >= 0 {
		s.remove(i)
	}
}

// remove removes the ith entry; the caller holds the lock.
func (s *slots) remove(i int) {
	s.queue = slices.Delete(s.queue, i, i+1)
	s.counts.Add(^uint64(oneWaiting) + 1)
}
