package replica

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// A QueueConfig bounds an admission queue.
type QueueConfig struct {
	// Size is how many requests may wait for a replica at once.
	Size int
	// MaxWait is the longest wait. Zero means the default: 30 s while another pool is left, and 5 min otherwise.
	MaxWait time.Duration
}

// The default longest waits equal those for an upstream's first token.
const (
	maxWaitNotLast = 30 * time.Second
	maxWaitLast    = 5 * time.Minute
)

// A Priority is a class of requests: the higher class gets the next free slot, and within a class the request that came first.
// The zero value is Normal.
type Priority int8

// The priorities.
const (
	Low Priority = iota - 1
	Normal
	High
)

var priorities = [...]string{"low", "normal", "high"}

// ParsePriority parses the name of a priority; the empty name is Normal.
func ParsePriority(name string) (Priority, error) {
	if name == "" {
		return Normal, nil
	}
	for i, p := range priorities {
		if p == name {
			return Priority(i) + Low, nil
		}
	}
	return Normal, fmt.Errorf("unknown priority %q: use high, normal or low", name)
}

// String returns the priority's name.
func (p Priority) String() string { return priorities[p-Low] }

// agingSteps controls priority aging: a request moves up one class each time it has waited for a quarter of its longest wait, so
// that no class starves. A low one is in the highest class after half of its wait, and in the other half no later request is
// admitted before it. A fixed time would not work: with slow models all waiting requests would soon be in one class, and short
// waits would be over before any request ages.
const agingSteps = 4

// due returns the key by which a queue is sorted: the time when a request reaches the end of the highest class.
func (p Priority) due(now time.Time, maxWait time.Duration) time.Time {
	return now.Add(time.Duration(High-p) * (maxWait / agingSteps))
}

// A Place is a replica that a request may wait for.
type Place struct {
	Group *Group
	Index int // of the replica in the group
}

// A Ticket is a request that waits for the first free slot at any of several replicas. It is in the queues of all of them, but holds
// a position, which counts against the queue's size, in only one.
type Ticket struct {
	// MaxWait is how long it may wait.
	MaxWait  time.Duration
	priority Priority
	entries  []entry
	settled  atomic.Bool
	granted  chan int
}

// An entry is a ticket in the queue of one replica.
type entry struct {
	ticket  *Ticket
	group   *Group
	replica *Replica
	index   int // of its place
	maxWait time.Duration
	due     time.Time // the queue is sorted by it
	holds   bool      // it holds a position of this replica's queue
}

// Enqueue queues a request at all of the places. Last is whether no other pool is left for it. It reports false if every queue is
// full and none has a request of a lower priority to displace. Every ticket must be ended by Leave.
func Enqueue(p Priority, last bool, places []Place) (*Ticket, bool) {
	t := &Ticket{priority: p, granted: make(chan int, 1), entries: make([]entry, len(places))}
	now, maxWait := time.Now(), maxWaitNotLast
	if last {
		maxWait = maxWaitLast
	}
	for i, at := range places {
		e := entry{ticket: t, group: at.Group, replica: at.Group.Replicas[at.Index], index: i, maxWait: cmp.Or(at.Group.Queue.MaxWait, maxWait)}
		e.due = p.due(now, e.maxWait)
		t.entries[i] = e
	}
	held := t.hold(false)
	if held == nil {
		held = t.hold(true)
	}
	if held == nil {
		return nil, false
	}
	held.holds, t.MaxWait = true, held.maxWait
	for i := range t.entries {
		t.entries[i].replica.slots.join(&t.entries[i])
	}
	return t, true
}

// hold takes a position in the shortest queue that has a free one, or, if displace is set, that of a request with a lower priority.
func (t *Ticket) hold(displace bool) *entry {
	shortest := make([]*entry, len(t.entries))
	for i := range t.entries {
		shortest[i] = &t.entries[i]
	}
	slices.SortStableFunc(shortest, func(a, b *entry) int { return cmp.Compare(a.replica.Waiting(), b.replica.Waiting()) })
	for _, e := range shortest {
		if e.replica.slots.hold(e, displace) {
			return e
		}
	}
	return nil
}

// hold takes a position for an entry. In a full queue it may displace the last request of a lower class that has not aged out of
// that class.
func (s *slots) hold(e *entry, displace bool) bool {
	size := e.group.Queue.Size
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held < size:
		s.held++
		return true
	case !displace, s.held > size: // another configuration allows more
		return false
	}
	for i, last := range slices.Backward(s.queue) {
		if !last.due.After(e.due) {
			return false
		}
		if last.holds && last.ticket.priority < e.ticket.priority && last.ticket.settle(displaced) {
			last.holds = false
			s.remove(i)
			return true
		}
	}
	return false
}

// displaced is what a ticket that lost its position receives instead of the number of a place.
const displaced = -1

// settle ends the ticket's wait with the number of the place where it got a slot, or with displaced. It reports false if the wait
// was already over.
func (t *Ticket) settle(index int) bool {
	if !t.settled.CompareAndSwap(false, true) {
		return false
	}
	t.granted <- index
	return true
}

// Granted returns the channel that receives, once, the number of the place where the ticket got a slot, or a negative number if its
// position went to a request with a higher priority.
func (t *Ticket) Granted() <-chan int { return t.granted }

// Leave ends the wait and removes the ticket from all queues. A slot that was granted but not received is released.
func (t *Ticket) Leave() {
	t.settled.Store(true)
	for i := range t.entries {
		t.entries[i].replica.slots.leave(&t.entries[i])
	}
	select {
	case i := <-t.granted:
		if i >= 0 {
			t.entries[i].replica.Release()
		}
	default:
	}
}
