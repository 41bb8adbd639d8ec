// Package coalesce lets identical concurrent requests share one upstream call, as singleflight does, but with answers that
// are streamed: the leader records the answer, and its followers read it as it arrives, as does the leader's own client.
//
// It decides who leads, and stops the leader when no client is left to want the answer. It does not know what a key or an
// answer means. It stands on the lowest floor, below caching.
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

// A Group holds the current leaders by key. A head, of type H, is what is known of an answer when it begins. The zero Group is
// ready to use.
type Group[K comparable, H any] struct {
	mu      sync.Mutex
	leaders map[K]*Leader[K, H]
	pending atomic.Int64  // bytes
	closed  atomic.Uint64 // leaders
}

// A Leader records the answer to one request. Recorded bytes are appended to and never changed.
type Leader[K comparable, H any] struct {
	group *Group[K, H]
	key   K
	limit int64 // the maximum size in bytes of an answer that is stored
	stop  func()

	// Guarded by group.mu.
	followers  int
	clientLeft bool
	finished   bool // there is nothing left to stop

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change; nil if no reader waits
	head     *H
	body     []byte
	extra    []Span
	oversize bool // longer than limit
	dropped  bool // too long to be recorded any further
	ended    bool
	complete bool
}

// PendingBytes returns the size of what all leaders have recorded.
func (g *Group[K, H]) PendingBytes() int64 { return g.pending.Load() }

// ClosedCount returns how many leaders have closed so far. If it changes during a lookup in a store, the store may hold an
// answer that the lookup missed.
func (g *Group[K, H]) ClosedCount() uint64 { return g.closed.Load() }

// Join returns the leader of a key. If there was none, it is a new one and leads is true; otherwise the caller is counted as
// its follower and must call Follow. The new leader calls stop when no client is left that wants its answer. Limit is the
// maximum size in bytes of an answer that is stored and shared with new followers.
func (g *Group[K, H]) Join(key K, limit int64, stop func()) (leader *Leader[K, H], leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if leader := g.leaders[key]; leader != nil {
		leader.followers++
		return leader, false
	}
	leader = &Leader[K, H]{group: g, key: key, limit: limit, stop: stop}
	if g.leaders == nil {
		g.leaders = map[K]*Leader[K, H]{}
	}
	g.leaders[key] = leader
	return leader, true
}

// Private returns a leader that has no followers: for a client that wants a new answer, which is to be stored.
func (g *Group[K, H]) Private(limit int64, stop func()) *Leader[K, H] {
	return &Leader[K, H]{group: g, limit: limit, stop: stop}
}

// remove ends the time in which others can join. The caller holds group.mu.
func (l *Leader[K, H]) remove() {
	if l.group.leaders[l.key] == l {
		delete(l.group.leaders, l.key)
	}
}

// Leave notes that the leader's own client has left. The leader goes on as long as it has followers.
func (l *Leader[K, H]) Leave() {
	l.group.mu.Lock()
	l.clientLeft = true
	l.unlockAndStop()
}

// leaveFollower notes that a follower has left.
func (l *Leader[K, H]) leaveFollower() {
	l.group.mu.Lock()
	l.followers--
	l.unlockAndStop()
}

// unlockAndStop releases group.mu, and stops the leader if no client is left.
func (l *Leader[K, H]) unlockAndStop() {
	unwanted := l.clientLeft && l.followers == 0 && !l.finished
	if unwanted {
		l.remove()
	}
	l.group.mu.Unlock()
	if unwanted {
		l.stop()
	}
}

// Begin records that the answer has begun.
func (l *Leader[K, H]) Begin(h H) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = &h
	l.wake()
}

// followedFactor is how many times limit an answer may grow to for the followers that it already has.
const followedFactor = 8

// Write records a part of the answer. Extra marks bytes that not every client gets. An answer that exceeds its limit is not
// stored, and not shared with new followers. Write reports whether it recorded the bytes: an answer that grows too long for
// its followers as well is not recorded any further.
func (l *Leader[K, H]) Write(p []byte, extra bool) bool {
	l.mu.Lock()
	size := int64(len(l.body) + len(p))
	exceeds := !l.oversize && size > l.limit
	l.oversize = l.oversize || exceeds
	l.mu.Unlock()
	if exceeds {
		l.group.mu.Lock()
		l.remove()
		l.group.mu.Unlock()
	}
	fits := size <= l.limit || size <= followedFactor*l.limit && l.hasFollowers()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped || !fits {
		l.dropped, l.ended = true, true
		l.wake()
		return false
	}
	if extra {
		l.extra = append(l.extra, Span{len(l.body), len(l.body) + len(p)})
	}
	l.body = append(l.body, p...)
	l.group.pending.Add(int64(len(p)))
	l.wake()
	return true
}

func (l *Leader[K, H]) hasFollowers() bool {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	return l.followers > 0
}

// Discard frees what was recorded of an answer that is not recorded any further.
func (l *Leader[K, H]) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.group.pending.Add(-int64(len(l.body)))
	l.body, l.extra = nil, nil
}

// Answer returns the recorded answer. Ok reports whether it may be stored.
func (l *Leader[K, H]) Answer() (h H, body []byte, extra []Span, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil || l.oversize || l.dropped {
		return h, nil, nil, false
	}
	return *l.head, l.body, l.extra, true
}

// Finish ends the answer for all readers. Complete says whether it came to its proper end.
func (l *Leader[K, H]) Finish(complete bool) {
	l.group.mu.Lock()
	l.finished = true
	l.group.mu.Unlock()
	l.mu.Lock()
	l.ended, l.complete = true, complete && !l.dropped
	l.wake()
	l.mu.Unlock()
}

// Close lets the next request with the same key lead. It must be called after the answer was stored, so that the next request
// either follows or finds it.
func (l *Leader[K, H]) Close() {
	l.group.closed.Add(1)
	l.group.mu.Lock()
	l.remove()
	l.group.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.group.pending.Add(-int64(len(l.body)))
}

// wake wakes all readers. The caller holds mu.
func (l *Leader[K, H]) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// nextChange returns a channel that is closed at the next change. The caller holds mu.
func (l *Leader[K, H]) nextChange() <-chan struct{} {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// ErrNoAnswer means that there is no answer to share: the leader failed before its answer began, or before its end where all
// of it is needed. The request must be served on its own.
var ErrNoAnswer = errors.New("the leader has no answer to share")

// Follow returns a follower that reads the answer from its start. The caller must close it.
func (l *Leader[K, H]) Follow() *Follower[K, H] { return &Follower[K, H]{leader: l} }

// OwnReader returns a reader for the leader's own client. It is not counted as a follower and need not be closed.
func (l *Leader[K, H]) OwnReader() *Follower[K, H] { return &Follower[K, H]{leader: l, closed: true} }

// A Follower reads the answer of a leader as it arrives.
type Follower[K comparable, H any] struct {
	leader *Leader[K, H]
	offset int // in the body
	span   int // the next of the extra parts
	closed bool
}

// Close stops following. If no other client wants the answer, the leader is stopped.
func (f *Follower[K, H]) Close() {
	if !f.closed {
		f.closed = true
		f.leader.leaveFollower()
	}
}

// Head waits until the answer begins. The error is ErrNoAnswer if the leader ended before that.
func (f *Follower[K, H]) Head(ctx context.Context) (h H, err error) {
	l := f.leader
	for {
		l.mu.Lock()
		if l.head != nil && !l.dropped {
			defer l.mu.Unlock()
			return *l.head, nil
		}
		if l.ended {
			l.mu.Unlock()
			return h, ErrNoAnswer
		}
		changed := l.nextChange()
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return h, ctx.Err()
		}
	}
}

// Next waits for more of the answer and returns it, with the extra parts or without them. The error is io.EOF at the end of a
// complete answer, and io.ErrUnexpectedEOF where an incomplete one breaks off.
func (f *Follower[K, H]) Next(ctx context.Context, extra bool) ([]byte, error) {
	l := f.leader
	for {
		l.mu.Lock()
		unread := f.unread(extra)
		ended, complete := l.ended, l.complete
		var changed <-chan struct{}
		if unread == nil && !ended {
			changed = l.nextChange()
		}
		l.mu.Unlock()
		switch {
		case unread != nil:
			return unread, nil
		case ended && complete:
			return nil, io.EOF
		case ended:
			return nil, io.ErrUnexpectedEOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// unread returns what was recorded since the last call, up to the next extra part; nil if nothing was. The caller holds
// leader.mu.
func (f *Follower[K, H]) unread(extra bool) []byte {
	body := f.leader.body
	for !extra && f.span < len(f.leader.extra) {
		s := f.leader.extra[f.span]
		if f.offset < s.Start {
			body = body[:s.Start]
			break
		}
		f.offset = max(f.offset, s.End)
		f.span++
	}
	if f.offset >= len(body) {
		return nil
	}
	unread := body[f.offset:]
	f.offset = len(body)
	return unread
}

// All waits for the end of the answer and returns all of it with its extra parts. The error is ErrNoAnswer if the answer is
// incomplete.
func (f *Follower[K, H]) All(ctx context.Context) (body []byte, extra []Span, err error) {
	for {
		if _, err := f.Next(ctx, true); errors.Is(err, io.EOF) {
			break
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil, ErrNoAnswer
		} else if err != nil {
			return nil, nil, err
		}
	}
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	return f.leader.body, f.leader.extra, nil
}
