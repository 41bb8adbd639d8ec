package router

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Room is a waiting room, as configured.
type Room struct {
	// Places is how many requests may wait for a replica at once.
	Places int
	// Wait is the longest wait; zero for the default.
	Wait time.Duration
}

// The longest waits by default are those of an upstream that is silent.
const (
	waitNotLast = 30 * time.Second // another pool is left
	waitLast    = 5 * time.Minute
)

// A Ticket is a request that waits for the first free slot at any of a turn's candidates.
type Ticket struct {
	// Wait is how long it may wait.
	Wait    time.Duration
	turn    Turn
	seats   []seat
	settled atomic.Bool
	granted chan int
}

// A seat is a ticket in the line of one replica.
type seat struct {
	ticket   *Ticket
	upstream *Upstream
	replica  *Replica
	index    int  // of the candidate
	placed   bool // it takes a place of this replica's waiting room
}

// Queue gets in line at all of the turn's candidates; false when none of their waiting rooms has a place. Every ticket must be
// ended by Leave.
func (w *Walk) Queue(turn Turn) (*Ticket, bool) {
	pool := w.Plan.Pools[turn.Pool]
	t := &Ticket{turn: turn, granted: make(chan int, 1), seats: make([]seat, 0, bits.OnesCount64(turn.among))}
	for i := range pool.candidates {
		if c := &pool.candidates[i]; turn.among&(1<<i) != 0 {
			t.seats = append(t.seats, seat{ticket: t, upstream: c.Target.Upstream, replica: c.Replica, index: i})
		}
	}
	placed := t.place()
	if placed == nil {
		return nil, false
	}
	t.Wait = placed.upstream.Room.Wait
	switch {
	case t.Wait > 0:
	case w.noneAfter():
		t.Wait = waitLast
	default:
		t.Wait = waitNotLast
	}
	for i := range t.seats {
		t.seats[i].replica.join(&t.seats[i])
	}
	return t, true
}

// place takes a place in the waiting room with the shortest line.
func (t *Ticket) place() (best *seat) {
	for i := range t.seats {
		s := &t.seats[i]
		switch {
		case !s.replica.seat(s.upstream.Room.Places):
		case best == nil:
			best = s
		case s.replica.Waiting() < best.replica.Waiting():
			best.replica.unseat()
			best = s
		default:
			s.replica.unseat()
		}
	}
	if best != nil {
		best.placed = true
	}
	return best
}

func (r *Replica) seat(places int) bool {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	if r.slots.seated >= places {
		return false
	}
	r.slots.seated++
	return true
}

func (r *Replica) unseat() {
	r.slots.mu.Lock()
	defer r.slots.mu.Unlock()
	r.slots.seated--
}

// grant gives the ticket a slot; false if it needs none any more.
func (t *Ticket) grant(index int) bool {
	if !t.settled.CompareAndSwap(false, true) {
		return false
	}
	t.granted <- index
	return true
}

// Granted gives the number of the candidate whose slot was taken, once.
func (t *Ticket) Granted() <-chan int { return t.granted }

// Leave ends the wait: the ticket stands in no line afterwards. A slot that it got meanwhile, unasked, is given back.
func (t *Ticket) Leave() {
	t.settled.Store(true)
	for i := range t.seats {
		t.seats[i].replica.leave(&t.seats[i])
	}
	select {
	case index := <-t.granted:
		for i := range t.seats {
			if t.seats[i].index == index {
				t.seats[i].replica.End()
			}
		}
	default:
	}
}

// Took counts the attempt at the candidate whose slot a ticket got.
func (w *Walk) Took(t *Ticket, index int) Candidate {
	w.begin(t.turn, index)
	return w.Plan.Pools[t.turn.Pool].candidates[index]
}

// Skip leaves the turn's pool, whose candidates have no slot in time.
func (w *Walk) Skip(t Turn) {
	w.over = w.stage == stale
	w.pool = t.Pool + 1
}
