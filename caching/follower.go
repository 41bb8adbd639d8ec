package caching

import (
	"context"
	"errors"
	"io"
)

// ErrAlone says that there is nothing to read along with: whoever generated failed before it had anything, or its answer
// must not be shared. The request is to be tried on its own.
var ErrAlone = errors.New("nothing to follow")

// Follow gives a reader of the answer from its start. It must be closed.
func (f *Flight) Follow() *Follower { return &Follower{f: f} }

// Own gives the leader's client a reader of the answer, from its start. It counts for nobody who follows; closing it does nothing.
func (f *Flight) Own() *Follower { return &Follower{f: f, closed: true} }

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
