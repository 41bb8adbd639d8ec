package admission

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Rules are the rules of one configuration for the replicas of an upstream.
type Rules struct {
	// Queue bounds the queue of each replica.
	Queue          Config
	limit, initial atomic.Uint32
}

// Limit returns how many requests may be in flight at one replica, whatever its server says; zero means no limit.
func (r *Rules) Limit() int { return int(r.limit.Load()) }

// SetLimit sets how many requests may be in flight at one replica, whatever its server says; zero means no limit. Afterwards, Queue.Admit
// admits requests that wait for the old limit.
func (r *Rules) SetLimit(n int) { r.limit.Store(uint32(min(max(n, 0), math.MaxInt32))) }

// Initial returns how many requests may be in flight at a replica until its server has shown how many it can do at once; zero means no
// limit.
func (r *Rules) Initial() int { return int(r.initial.Load()) }

// SetInitial sets what Initial returns. Afterwards, Queue.Admit admits requests that wait for the old limit.
func (r *Rules) SetInitial(n int) { r.initial.Store(uint32(min(max(n, 0), math.MaxInt32))) }

// A Config bounds a queue.
type Config struct {
	// Size is how many requests may wait for a replica at once.
	Size int
	// PerCaller is how many of them may be of one caller. Zero means all of them.
	PerCaller int
	// MaxWait is the longest wait. Zero means the default: 30 s while another pool is left, and 5 min otherwise.
	MaxWait time.Duration
}

// perCaller returns how many requests of one caller may wait.
func (q Config) perCaller() int { return cmp.Or(q.PerCaller, q.Size) }

// The default longest waits equal those for an upstream's first token.
const (
	maxWaitNotLast = 30 * time.Second
	maxWaitLast    = 5 * time.Minute
)

// agingSteps controls priority aging: a request moves up one class each time it has waited for a quarter of its longest wait, so
// that no class starves. It counts only for the request that is next in its class: otherwise the many requests of a greedy caller,
// which wait long because their caller has had its share, would overtake those of others. A fixed time would not work: with slow models
// all waiting requests would soon be in one class, and short waits would be over before any request ages.
const agingSteps = 4

// due returns by when a class is chosen: the time when a request reaches the end of the highest class.
func (p Priority) due(now time.Time, maxWait time.Duration) time.Time {
	return now.Add(time.Duration(High-p) * (maxWait / agingSteps))
}

// A Place is a replica that a request may wait for.
type Place struct {
	Rules *Rules
	Queue *Queue
	// Model is the name of the model there.
	Model string
}

// A Ticket is a request that waits for the first free slot at any of several replicas. It is in the queues of all of them, but holds
// a position, which counts against the queue's size, in only one.
type Ticket struct {
	// MaxWait is how long it may wait.
	MaxWait time.Duration
	// First is what was to be expected when it came.
	First   Forecast
	slot    *Slot
	entries []entry
	claimed atomic.Bool
	granted chan int
}

// An entry is a ticket in the queue of one replica. The fields after maxWait are guarded by the lock of the queue.
type entry struct {
	ticket        *Ticket
	rules         *Rules
	queue         *Queue
	model         string
	index         int // of its place
	arrived       time.Time
	due           time.Time // the time by which a class is chosen when this request is next in its own
	maxWait       time.Duration
	queued        bool // it is in the queue
	holds         bool // it holds a position of this queue
	flow          *flow
	before, after *entry  // in the flow
	cost          float64 // expected
	promptCost    float64 // of a token of the prompt, by which it was computed
	service       float64 // expected, in seconds; zero if it is unknown
}

// Enqueue queues a request at all of the places. Last is whether no other pool is left for it. It reports false if every queue is
// full, as far as the caller may use it, and has no request to displace. Every ticket must be ended by Leave.
func Enqueue(slot *Slot, last bool, places []Place) (*Ticket, bool) {
	t := &Ticket{slot: slot, granted: make(chan int, 1), entries: make([]entry, len(places))}
	now, maxWait := time.Now(), maxWaitNotLast
	if last {
		maxWait = maxWaitLast
	}
	for i, at := range places {
		e := entry{ticket: t, rules: at.Rules, queue: at.Queue, model: at.Model, index: i, arrived: now, maxWait: cmp.Or(at.Rules.Queue.MaxWait, maxWait)}
		e.due = slot.Priority.due(now, e.maxWait)
		t.entries[i] = e
	}
	held := t.hold()
	if held == nil {
		return nil, false
	}
	t.MaxWait = held.maxWait
	for i := range t.entries {
		if e := &t.entries[i]; e != held && !t.claimed.Load() {
			e.queue.follow(e)
		}
	}
	t.First = t.Forecast()
	return t, true
}

// hold takes a position in the shortest queue that has a free one, or else that of another request.
func (t *Ticket) hold() *entry {
	if len(t.entries) == 1 {
		if e := &t.entries[0]; e.queue.hold(e, true) {
			return e
		}
		return nil
	}
	shortest := make([]*entry, len(t.entries))
	for i := range t.entries {
		shortest[i] = &t.entries[i]
	}
	slices.SortStableFunc(shortest, func(a, b *entry) int { return cmp.Compare(a.queue.Waiting(), b.queue.Waiting()) })
	for _, displace := range []bool{false, true} {
		for _, e := range shortest {
			if e.queue.hold(e, displace) {
				return e
			}
		}
	}
	return nil
}

// displaced is what a ticket that lost its position receives instead of the number of a place.
const displaced = -1

// claim ends the wait of a ticket. It reports false if the wait was over before.
func (t *Ticket) claim() bool { return t.claimed.CompareAndSwap(false, true) }

// Granted returns the channel that receives, once, the number of the place where the ticket got a slot, or a negative number if its
// position went to another request.
func (t *Ticket) Granted() <-chan int { return t.granted }

// Leave ends the wait and removes the ticket from all queues. A slot that was granted but not received is released.
func (t *Ticket) Leave() {
	t.claimed.Store(true)
	for i := range t.entries {
		t.entries[i].queue.leave(&t.entries[i])
	}
	select {
	case i := <-t.granted:
		if i >= 0 {
			t.slot.Release(Usage{})
		}
	default:
	}
}
