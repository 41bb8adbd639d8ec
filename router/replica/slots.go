package replica

import (
	"slices"
	"sync"
	"sync/atomic"
)

// slots counts the requests in flight at a replica, and queues those that wait for it in the order in which they are due.
type slots struct {
	// counts has the number of waiting requests in its high half and of those in flight in its low half. It is one word, so that a
	// new request cannot take a released slot from the waiting request that should get it.
	counts atomic.Uint64
	mu     sync.Mutex
	queue  []*entry
	// held is how many of the waiting requests hold a position in this replica's queue. The others hold one in another queue.
	held int
}

// oneWaiting is what one waiting request adds to the counts.
const oneWaiting = 1 << 32

// take takes a slot if one is free. While requests wait, only the first of them gets one. Without contention this is one load and
// one exchange.
func (s *slots) take(limit int, isFirst bool) bool {
	for {
		n := s.counts.Load()
		if n >= oneWaiting && !isFirst || limit > 0 && int(uint32(n)) >= limit {
			return false
		}
		if s.counts.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release releases a slot. The first waiting request, if any, gets it.
func (r *Replica) Release() {
	if r.slots.counts.Add(^uint64(0)) >= oneWaiting {
		r.slots.admit()
	}
}

// InFlight returns the number of requests that hold a slot.
func (r *Replica) InFlight() int { return int(uint32(r.slots.counts.Load())) }

// Waiting returns the number of requests that wait for a slot here, including those that wait for other replicas as well.
func (r *Replica) Waiting() int { return int(r.slots.counts.Load() >> 32) }

// admit gives free slots to waiting requests, in their order.
func (s *slots) admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		first := s.queue[0]
		if !s.take(first.group.Limit(), true) {
			return
		}
		s.remove(0)
		if !first.ticket.settle(first.index) {
			s.counts.Add(^uint64(0)) // the request has left, or got a slot at another replica
		}
	}
}

// join queues an entry after all entries that are due before it.
func (s *slots) join(e *entry) {
	s.mu.Lock()
	at := len(s.queue)
	for at > 0 && s.queue[at-1].due.After(e.due) {
		at--
	}
	s.queue = slices.Insert(s.queue, at, e)
	s.counts.Add(oneWaiting)
	s.mu.Unlock()
	s.admit() // a slot may have been released since this request asked for one
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
