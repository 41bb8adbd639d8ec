// Package coalesce lets identical concurrent requests share one upstream call, as singleflight does, but with answers that are
// streamed: the leader records the answer, and its followers read it as it comes, as does the leader's own client.
//
// It decides who leads and when nobody wants an answer any more; it does not know what a key or an answer means. It stands on the
// lowest floor, below caching.
package coalesce

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// A Span is a part of a recorded answer, in bytes.
type Span struct{ Start, End int }

// A Group is the requests that generate at the moment, by key. A head, of type H, is what is known when an answer begins. The zero
// Group is ready.
type Group[K comparable, H any] struct {
	mu       sync.Mutex
	open     map[K]*Leader[K, H]
	pending  atomic.Int64 // bytes that all leaders have recorded
	finished atomic.Uint64
}

// A Leader records an answer that is being generated. Recorded bytes are never changed, only appended to.
type Leader[K comparable, H any] struct {
	group *Group[K, H]
	key   K
	limit int64 // of its bytes, for sharing and storing
	stop  func()

	// Guarded by group.mu.
	followers int
	left      bool // the leader's client left
	finished  bool // nothing is left to be stopped; the leader will close

	mu        sync.Mutex
	changed   chan struct{} // closed at the next change; nil while nobody waits
	head      *H
	body      []byte
	extra     []Span
	outgrown  bool // longer than limit
	dropped   bool // too long to be recorded any further
	over      bool
	succeeded bool
}

// Pending returns how many bytes all leaders have recorded.
func (f *Group[K, H]) Pending() int64 { return f.pending.Load() }

// Finished counts the leaders that are over; one that is over meanwhile may have stored what was not there before.
func (f *Group[K, H]) Finished() uint64 { return f.finished.Load() }

// Join returns the leader of a key: a new one, if there was none, else the one to follow. Stop is called when nobody is left who
// wants the answer; limit bounds the bytes of an answer that is shared and stored.
func (f *Group[K, H]) Join(key K, limit int64, stop func()) (leader *Leader[K, H], leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if leader := f.open[key]; leader != nil {
		leader.followers++
		return leader, false
	}
	leader = &Leader[K, H]{group: f, key: key, limit: limit, stop: stop}
	if f.open == nil {
		f.open = map[K]*Leader[K, H]{}
	}
	f.open[key] = leader
	return leader, true
}

// Private returns a leader that nobody can follow, for a client that wants an answer of its own which is to be stored.
func (f *Group[K, H]) Private(limit int64, stop func()) *Leader[K, H] {
	return &Leader[K, H]{group: f, limit: limit, stop: stop}
}

// close lets nobody join any more. The caller holds group.mu.
func (f *Leader[K, H]) close() {
	if f.group.open[f.key] == f {
		delete(f.group.open, f.key)
	}
}

// Leave says that the leader's client left. The answer is generated on while somebody follows.
func (f *Leader[K, H]) Leave() {
	f.group.mu.Lock()
	f.left = true
	alone := f.followers == 0 && !f.finished
	if alone {
		f.close()
	}
	f.group.mu.Unlock()
	if alone {
		f.stop()
	}
}

// Begin says that the answer has begun.
func (f *Leader[K, H]) Begin(h H) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = &h
	f.wake()
}

// followedFactor is how many times longer than the limit an answer may become for those who follow it already.
const followedFactor = 8

// Write records a part of the answer; extra says that not every client asked for these bytes. An answer that outgrows its limit is
// neither stored nor shared with anybody new. Write reports false if it is too long for its followers, too, and nothing more is
// recorded.
func (f *Leader[K, H]) Write(p []byte, extra bool) bool {
	f.mu.Lock()
	size := int64(len(f.body) + len(p))
	grown := !f.outgrown && size > f.limit
	f.outgrown = f.outgrown || grown
	f.mu.Unlock()
	if grown {
		f.group.mu.Lock()
		f.close()
		f.group.mu.Unlock()
	}
	keep := size <= f.limit || size <= followedFactor*f.limit && f.followed()
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
	f.group.pending.Add(int64(len(p)))
	f.wake()
	return true
}

// followed reports whether there is a follower.
func (f *Leader[K, H]) followed() bool {
	f.group.mu.Lock()
	defer f.group.mu.Unlock()
	return f.followers > 0
}

// Forget drops what was recorded of an answer that is too long.
func (f *Leader[K, H]) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.group.pending.Add(-int64(len(f.body)))
	f.body, f.extra = nil, nil
}

// Answer returns what was recorded, if it may be stored.
func (f *Leader[K, H]) Answer() (h H, body []byte, extra []Span, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head == nil || f.outgrown || f.dropped {
		return h, nil, nil, false
	}
	return *f.head, f.body, f.extra, true
}

// Finish ends the answer for its followers; ok says that it is complete.
func (f *Leader[K, H]) Finish(ok bool) {
	f.group.mu.Lock()
	f.finished = true
	f.group.mu.Unlock()
	f.mu.Lock()
	f.over, f.succeeded = true, ok && !f.dropped
	f.wake()
	f.mu.Unlock()
}

// Close lets the next request with the key lead. The leader closes when what it stored can be found.
func (f *Leader[K, H]) Close() {
	f.group.finished.Add(1)
	f.group.mu.Lock()
	f.close()
	f.group.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.group.pending.Add(-int64(len(f.body)))
}

// wake wakes all who wait. The caller holds mu.
func (f *Leader[K, H]) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// wait returns a channel that is closed at the next change. The caller holds mu.
func (f *Leader[K, H]) wait() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// ErrNothing means that there is nothing to follow: the leader failed before it had anything, or its answer must not be shared.
// The request must be tried on its own.
var ErrNothing = errors.New("nothing to follow")

// Follow returns a follower, which reads the answer from its start. It must be closed.
func (f *Leader[K, H]) Follow() *Follower[K, H] { return &Follower[K, H]{f: f} }

// Own returns a reader of the answer for the leader's own client, from its start. It does not count as a follower; closing it does
// nothing.
func (f *Leader[K, H]) Own() *Follower[K, H] { return &Follower[K, H]{f: f, closed: true} }

// A Follower reads the answer of a leader as it comes.
type Follower[K comparable, H any] struct {
	f      *Leader[K, H]
	at     int
	span   int
	closed bool
}

// Close stops following. The leader stops if nobody else wants its answer.
func (r *Follower[K, H]) Close() {
	if !r.closed {
		r.closed = true
		r.f.unfollow()
	}
}

// unfollow says that a follower has left.
func (f *Leader[K, H]) unfollow() {
	f.group.mu.Lock()
	f.followers--
	alone := f.left && f.followers == 0 && !f.finished
	if alone {
		f.close()
	}
	f.group.mu.Unlock()
	if alone {
		f.stop()
	}
}

// Head waits for the answer to begin. It is ErrNothing if it never will.
func (r *Follower[K, H]) Head(ctx context.Context) (h H, err error) {
	for {
		f := r.f
		f.mu.Lock()
		if f.head != nil && !f.dropped {
			defer f.mu.Unlock()
			return *f.head, nil
		}
		if f.over {
			f.mu.Unlock()
			return h, ErrNothing
		}
		changed := f.wait()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return h, ctx.Err()
		}
	}
}

// Next waits for more of the answer, and returns it without the extra parts unless they are wanted. It is io.EOF at the end
// of a whole answer, io.ErrUnexpectedEOF at the end of one that broke off.
func (r *Follower[K, H]) Next(ctx context.Context, extra bool) ([]byte, error) {
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

// more returns what was not read yet, up to the next extra part; nil if there is none.
func (r *Follower[K, H]) more(extra bool) []byte {
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

// All waits for the end of the answer and returns all of it, with its extra parts. It is ErrNothing if it did not come to its
// end.
func (r *Follower[K, H]) All(ctx context.Context) (body []byte, extra []Span, err error) {
	for {
		if _, err := r.Next(ctx, true); errors.Is(err, io.EOF) {
			break
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, ErrNothing
		} else if err != nil {
			return nil, nil, err
		}
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.body, r.f.extra, nil
}
