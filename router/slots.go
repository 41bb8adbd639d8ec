package router

import (
	"slices"
	"sync"
	"sync/atomic"
)

// slots counts the requests at a replica, and those that wait for it, in the order in which they are due. The limit is a rule, so
// that it comes with each call.
type slots struct {
	// state has how many wait in its high half, and how many are at the replica in its low half. One word, so that nobody can
	// slip in between a slot that is given back and the one who waits for it.
	state atomic.Uint64
	mu    sync.Mutex
	queue []*seat
	// seated is how many of those that wait take a place of this replica's waiting room; the others take another one's.
	seated int
}

// waiting is one request that waits, in the state.
const waiting = 1 << 32

// take takes a slot if one is free and nobody waits for it: without contention one load and one exchange.
func (r *Replica) take(limit int) bool {
	for {
		s := r.slots.state.Load()
		if s >= waiting || limit > 0 && s >= uint64(limit) {
			return false
		}
		if r.slots.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// End gives a slot back: to the first in line, if anybody waits.
func (r *Replica) End() {
	if r.slots.state.Add(^uint64(0)) >= waiting {
		r.admit()
	}
}

// Open is the number of requests that are at the replica now.
func (r *Replica) Open() int { return int(uint32(r.slots.state.Load())) }

// Waiting is the number of requests that wait for the replica, also such that take another replica as well.
func (r *Replica) Waiting() int { return int(r.slots.state.Load() >> 32) }

// admit gives free slots to those that wait, in their order.
func (r *Replica) admit() {
	s := &r.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		first := s.queue[0]
		if !r.takeFor(first.upstream.Limit()) {
			return
		}
		r.remove(0)
		if !first.ticket.settle(first.index) {
			s.state.Add(^uint64(0)) // it has left, or got another one
		}
	}
}

// takeFor takes a slot for the one who is first in line.
func (r *Replica) takeFor(limit int) bool {
	for {
		s := r.slots.state.Load()
		if limit > 0 && uint64(uint32(s)) >= uint64(limit) {
			return false
		}
		if r.slots.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// join puts a seat in line, behind all that are due before it.
func (r *Replica) join(one *seat) {
	s := &r.slots
	s.mu.Lock()
	at := len(s.queue)
	for at > 0 && s.queue[at-1].due.After(one.due) {
		at--
	}
	s.queue = slices.Insert(s.queue, at, one)
	s.state.Add(waiting)
	s.mu.Unlock()
	r.admit() // a slot may have been given back since it was asked for
}

// leave takes a seat out of the line, if it still stands there.
func (r *Replica) leave(one *seat) {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	if one.placed {
		r.slots.seated--
	}
	if i := slices.Index(r.slots.queue, one); i >= 0 {
		r.remove(i)
	}
}

// remove takes one out of the line; the caller holds the lock.
func (r *Replica) remove(i int) {
	r.slots.queue = slices.Delete(r.slots.queue, i, i+1)
	r.slots.state.Add(^uint64(waiting) + 1)
}
