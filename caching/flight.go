package caching

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// ErrAlone says that there is nothing to read along with: whoever generated failed before it had anything, or its answer
// must not be shared. The request is to be tried on its own.
var ErrAlone = errors.New("nothing to follow")

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

// A Flight is an answer under way: the leader writes it, followers read along. Its bytes are never changed once they are
// written, only appended to.
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
	dropped   bool // too long for anybody
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

// unfollow tells that a follower is gone.
func (f *Flight) unfollow() {
	f.flights.mu.Lock()
	f.followers--
	alone := f.left && f.followers == 0 && !f.landed
	if alone {
		f.close()
	}
	f.flights.mu.Unlock()
	if alone {
		f.stop()
	}
}

// Followed tells whether anybody reads along.
func (f *Flight) Followed() bool {
	f.flights.mu.Lock()
	defer f.flights.mu.Unlock()
	return f.followers > 0
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
// is neither kept nor shared with anybody new.
func (f *Flight) Write(p []byte, extra bool) {
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
	keep := size <= f.limit || size <= outrun*f.limit && f.Followed()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !keep {
		f.flights.pending.Add(-int64(len(f.body)))
		f.body, f.extra, f.dropped, f.over = nil, nil, true, true
		f.wake()
		return
	}
	if f.dropped {
		return
	}
	if extra {
		f.extra = append(f.extra, Span{len(f.body), len(f.body) + len(p)})
	}
	f.body = append(f.body, p...)
	f.flights.pending.Add(int64(len(p)))
	f.wake()
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

// Follow gives a reader of the answer from its start. It must be closed.
func (f *Flight) Follow() *Follower { return &Follower{f: f} }

// A Follower reads along with a flight.
type Follower struct {
	f      *Flight
	at     int
	span   int
	closed bool
}

// Close lets go of the flight, which stops if nobody else wants it.
func (r *Follower) Close() {
	if !r.closed {
		r.closed = true
		r.f.unfollow()
	}
}

// Head waits for the answer to begin. It is ErrAlone if it never will.
func (r *Follower) Head(ctx context.Context) (Head, error) {
	for {
		f := r.f
		f.mu.Lock()
		if f.head != nil && !f.dropped {
			defer f.mu.Unlock()
			return *f.head, nil
		}
		if f.over {
			f.mu.Unlock()
			return Head{}, ErrAlone
		}
		changed := f.wait()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Head{}, ctx.Err()
		}
	}
}

// Next waits for more of the answer, and gives it without the extra parts unless they are wanted. It is io.EOF at the end
// of a whole answer, io.ErrUnexpectedEOF at the end of one that broke off.
func (r *Follower) Next(ctx context.Context, extra bool) ([]byte, error) {
	for {
		r.f.mu.Lock()
		more := r.more(extra)
		over, ok := r.f.over, r.f.succeeded
		var changed <-chan struct{}
		if more == nil && !over {
			changed = r.f.wait()
		}
		r.f.mu.Unlock()
		switch {
		case more != nil:
			return more, nil
		case over && ok:
			return nil, io.EOF
		case over:
			return nil, io.ErrUnexpectedEOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// more gives what was not read yet, up to the next extra part; nil if there is none.
func (r *Follower) more(extra bool) []byte {
	body := r.f.body
	for !extra && r.span < len(r.f.extra) {
		s := r.f.extra[r.span]
		if r.at < s.Start {
			body = body[:s.Start]
			break
		}
		r.at = max(r.at, s.End)
		r.span++
	}
	if r.at >= len(body) {
		return nil
	}
	more := body[r.at:]
	r.at = len(body)
	return more
}

// All waits for the end of the answer and gives all of it, with its extra parts. It is ErrAlone if it did not come to its
// end.
func (r *Follower) All(ctx context.Context) (body []byte, extra []Span, err error) {
	for {
		if _, err := r.Next(ctx, true); errors.Is(err, io.EOF) {
			break
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, ErrAlone
		} else if err != nil {
			return nil, nil, err
		}
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.body, r.f.extra, nil
}
