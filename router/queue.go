package router

import (
	"cmp"
	"math/bits"
	"slices"
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
	Wait     time.Duration
	priority Priority
	turn     Turn
	seats    []seat
	settled  atomic.Bool
	granted  chan int
}

// A seat is a ticket in the line of one replica.
type seat struct {
	ticket   *Ticket
	upstream *Upstream
	replica  *Replica
	index    int           // of the candidate
	longest  time.Duration // wait here
	due      time.Time     // whose is earlier stands before
	placed   bool          // it takes a place of this replica's waiting room
}

// Queue gets in line at all of the turn's candidates; false when none of their waiting rooms has a place, nor anybody there a
// lower priority. Every ticket must be ended by Leave.
func (w *Walk) Queue(turn Turn) (*Ticket, bool) {
	pool := w.Plan.Pools[turn.Pool]
	t := &Ticket{priority: w.Priority, turn: turn, granted: make(chan int, 1), seats: make([]seat, 0, bits.OnesCount64(turn.among))}
	now, otherwise := time.Now(), waitNotLast
	if w.noneAfter() {
		otherwise = waitLast
	}
	for i := range pool.candidates {
		if c := &pool.candidates[i]; turn.among&(1<<i) != 0 {
			longest := cmp.Or(c.Target.Upstream.Room.Wait, otherwise)
			t.seats = append(t.seats, seat{
				ticket: t, upstream: c.Target.Upstream, replica: c.Replica, index: i, longest: longest, due: w.Priority.due(now, longest),
			})
		}
	}
	placed := t.place()
	if placed == nil {
		placed = t.displace()
	}
	if placed == nil {
		return nil, false
	}
	placed.placed, t.Wait = true, placed.longest
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
	return best
}

// displace takes the place of somebody with a lower priority.
func (t *Ticket) displace() *seat {
	for i := range t.seats {
		if s := &t.seats[i]; s.replica.displace(s) {
			return s
		}
	}
	return nil
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

// displace takes the place of the last in a full room, if its class is lower and it has not moved up meanwhile.
func (r *Replica) displace(by *seat) bool {
	s, places := &r.slots, by.upstream.Room.Places
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seated < places { // somebody has just left
		s.seated++
		return true
	}
	if s.seated > places { // by the rules of another configuration
		return false
	}
	for i, last := range slices.Backward(s.queue) {
		if !last.due.After(by.due) {
			return false
		}
		if last.placed && last.ticket.priority < by.ticket.priority && last.ticket.settle(displaced) {
			last.placed = false
			r.remove(i)
			return true
		}
	}
	return false
}

// settle ends the ticket's wait: with the number of the candidate whose slot it gets, or displaced; false if it has ended already.
func (t *Ticket) settle(index int) bool {
	if !t.settled.CompareAndSwap(false, true) {
		return false
	}
	t.granted <- index
	return true
}

// displaced is in the place of a candidate's number for who has to go.
const displaced = -1

// Granted gives the number of the candidate whose slot was taken, once; a negative one if the place was given to a request of a
// higher priority.
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
