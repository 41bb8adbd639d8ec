package caching

import (
	"sync"
	"sync/atomic"
)

// Flights are the requests that generate at the moment, by key. The zero value is ready.
type Flights struct {
	mu      sync.Mutex
	open    map[Key]*Flight
	pending atomic.Int64 // bytes in all flights
	landed  atomic.Uint64
}

// A Head is what is known when an answer begins.
type Head struct {
	Form        Form
	ContentType string
	Target      string
	Route       string
}

// A Flight is an answer under way: the leader writes it down, and followers read along, as does the leader's own client. Its
// bytes are never changed once they are written, only appended to.
type Flight struct {
	flights *Flights
	key     Key
	limit   int64 // of its bytes, for joining and keeping
	stop    func()

	// Guarded by flights.mu.
	followers int
	left      bool // the leader's client left
	landed    bool // nothing is left to be stopped; the leader will close

	mu        sync.Mutex
	changed   chan struct{} // closed at the next change; nil while nobody waits
	head      *Head
	body      []byte
	extra     []Span
	outgrown  bool // longer than limit
	dropped   bool // too long to be written down any further
	over      bool
	succeeded bool
}

// Pending is how many bytes all flights hold.
func (f *Flights) Pending() int64 { return f.pending.Load() }

// Landed counts the flights that are over; one that is over meanwhile may have left what was not there before.
func (f *Flights) Landed() uint64 { return f.landed.Load() }

// Join gives the flight of a key: to lead, if there was none, or to follow. Stop is called when nobody is left who wants
// the answer; limit bounds the bytes of an answer that is shared and kept.
func (f *Flights) Join(key Key, limit int64, stop func()) (flight *Flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flight := f.open[key]; flight != nil {
		flight.followers++
		return flight, false
	}
	flight = &Flight{flights: f, key: key, limit: limit, stop: stop}
	if f.open == nil {
		f.open = map[Key]*Flight{}
	}
	f.open[key] = flight
	return flight, true
}

// Private is a flight that nobody can join, for a client that wants an answer of its own which is to be kept.
func (f *Flights) Private(limit int64, stop func()) *Flight {
	return &Flight{flights: f, limit: limit, stop: stop}
}

// close lets nobody join any more. The caller holds flights.mu.
func (f *Flight) close() {
	if f.flights.open[f.key] == f {
		delete(f.flights.open, f.key)
	}
}

// Leave tells that the leader's client left. The flight goes on while somebody follows.
func (f *Flight) Leave() {
	f.flights.mu.Lock()
	f.left = true
	alone := f.followers == 0 && !f.landed
	if alone {
		f.close()
	}
	f.flights.mu.Unlock()
	if alone {
		f.stop()
	}
}

// Begin tells that the answer has begun.
func (f *Flight) Begin(h Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = &h
	f.wake()
}

// Outrun is how many times longer than the limit an answer may become for those who follow it already.
const outrun = 8

// Write appends to the answer; extra tells that not every client asked for these bytes. An answer that outgrows its limit
// is neither kept nor shared with anybody new; false says that it is too long for those who follow, too, and that nothing
// more is written down.
func (f *Flight) Write(p []byte, extra bool) bool {
	f.mu.Lock()
	size := int64(len(f.body) + len(p))
	grown := !f.outgrown && size > f.limit
	f.outgrown = f.outgrown || grown
	f.mu.Unlock()
	if grown {
		f.flights.mu.Lock()
		f.close()
		f.flights.mu.Unlock()
	}
	keep := size <= f.limit || size <= outrun*f.limit && f.followed()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped || !keep {
		f.dropped, f.over = true, true
		f.wake()
		return false
	}
	if extra {
		f.extra = append(f.extra, Span{len(f.body), len(f.body) + len(p)})
	}
	f.body = append(f.body, p...)
	f.flights.pending.Add(int64(len(p)))
	f.wake()
	return true
}

// followed tells whether anybody reads along but the leader.
func (f *Flight) followed() bool {
	f.flights.mu.Lock()
	defer f.flights.mu.Unlock()
	return f.followers > 0
}

// Forget lets go of what was written down of an answer that is too long.
func (f *Flight) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flights.pending.Add(-int64(len(f.body)))
	f.body, f.extra = nil, nil
}

// Answer gives what was written, if it may be kept.
func (f *Flight) Answer() (h Head, body []byte, extra []Span, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == nil || f.outgrown || f.dropped {
		return Head{}, nil, nil, false
	}
	return *f.head, f.body, f.extra, true
}

// Land ends the flight for those who follow; ok tells that the answer came to its end.
func (f *Flight) Land(ok bool) {
	f.flights.mu.Lock()
	f.landed = true
	f.flights.mu.Unlock()
	f.mu.Lock()
	f.over, f.succeeded = true, ok && !f.dropped
	f.wake()
	f.mu.Unlock()
}

// Close ends the flight for those who come. The leader closes when what it kept can be found.
func (f *Flight) Close() {
	f.flights.landed.Add(1)
	f.flights.mu.Lock()
	f.close()
	f.flights.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flights.pending.Add(-int64(len(f.body)))
}

// wake tells all who wait. The caller holds mu.
func (f *Flight) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// wait gives a channel that is closed at the next change. The caller holds mu.
func (f *Flight) wait() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}
