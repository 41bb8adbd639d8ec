package coalesce

import (
	"context"
	"errors"
	"io"
	"slices"
	"sort"
	"time"
)

var (
	// ErrNoAnswer means that there is no answer to share: the leader failed before its answer began, or before its end where all of it
	// is needed, or the answer is too long to be kept. The request must be served on its own.
	ErrNoAnswer = errors.New("the leader has no answer to share")
	// ErrTooSlow means that the reader was cut off, because it held up others that wanted the same answer.
	ErrTooSlow = errors.New("the client read nothing while others waited for it")
)

// OwnReader returns a reader for the leader's own client, which must be closed. It is not counted as a follower, and what it reads is
// valid only until its next call.
func (l *Leader[K, H]) OwnReader() *Follower[K, H] { return l.newReader(true) }

func (l *Leader[K, H]) newReader(own bool) *Follower[K, H] {
	f := &Follower[K, H]{leader: l, own: own, readAt: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readers = append(l.readers, f)
	l.shared = l.shared || !own
	return f
}

// forget ends the wait for a reader, and releases what only it had still to read. The caller holds mu.
func (l *Leader[K, H]) forget(f *Follower[K, H]) {
	l.readers = slices.DeleteFunc(l.readers, func(x *Follower[K, H]) bool { return x == f })
	l.release()
	l.noteRead()
}

// A Follower reads the answer of a leader from its start, as it arrives.
type Follower[K comparable, H any] struct {
	leader *Leader[K, H]
	own    bool // it reads for the leader's own client
	closed bool

	// Guarded by leader.mu.
	offset  int       // in the answer
	span    int       // the next of the extra parts
	done    int       // the offset up to which nothing is needed any more
	readAt  time.Time // when the follower last asked for more
	tooSlow bool      // it was cut off
}

// Close stops following. If no other client wants the answer, the leader is stopped.
func (f *Follower[K, H]) Close() {
	if f.closed {
		return
	}
	f.closed = true
	f.leader.mu.Lock()
	f.leader.forget(f)
	f.leader.mu.Unlock()
	if !f.own {
		f.leader.leaveFollower()
	}
}

// Head waits until the answer begins. The error is ErrNoAnswer if the leader ended before that.
func (f *Follower[K, H]) Head(ctx context.Context) (h H, err error) {
	l := f.leader
	for {
		l.mu.Lock()
		if l.head != nil {
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

// Next waits for more of the answer and returns it, with the extra parts or without them. A follower may keep
// the bytes, but their memory is counted only until the next call. The error is io.EOF at the end of a complete answer, io.ErrUnexpectedEOF where an incomplete one
// breaks off, and ErrTooSlow if the reader was cut off.
func (f *Follower[K, H]) Next(ctx context.Context, extra bool) ([]byte, error) {
	l := f.leader
	for {
		l.mu.Lock()
		unread := f.unread(extra)
		ended, complete, tooSlow := l.ended, l.complete, f.tooSlow
		var changed <-chan struct{}
		if unread == nil && !ended && !tooSlow {
			changed = l.nextChange()
		}
		l.mu.Unlock()
		switch {
		case tooSlow:
			return nil, ErrTooSlow
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

// Ready is Next without the wait. It returns nil without an error if nothing more has been recorded so far.
func (f *Follower[K, H]) Ready(extra bool) ([]byte, error) {
	l := f.leader
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.tooSlow {
		return nil, ErrTooSlow
	}
	return f.unread(extra), nil
}

// unread returns the next part of what was recorded since the last call, up to the next extra part; nil if nothing was. What it returned
// before is not needed any more. The caller holds leader.mu.
func (f *Follower[K, H]) unread(extra bool) []byte {
	l := f.leader
	if f.tooSlow {
		return nil
	}
	end := l.size
	for !extra && f.span < len(l.extra) {
		s := l.extra[f.span]
		if f.offset < s.Start {
			end = min(end, s.Start)
			break
		}
		f.offset = max(f.offset, s.End)
		f.span++
	}
	f.readAt = time.Now()
	if f.done < f.offset {
		f.done = f.offset
		l.release()
		l.noteRead()
	}
	if f.offset >= end {
		return nil
	}
	i := sort.Search(len(l.pieces), func(i int) bool { return l.pieces[i].end() > f.offset })
	p := &l.pieces[i]
	unread := p.bytes[f.offset-p.start : min(len(p.bytes), end-p.start)]
	f.offset += len(unread)
	return unread[:len(unread):len(unread)]
}

// All waits for the end of the answer and returns all of it with its extra parts. It must be the first call that reads. The error is ErrNoAnswer if the answer is incomplete or
// too long to be kept.
func (f *Follower[K, H]) All(ctx context.Context) (body []byte, extra []Span, err error) {
	l := f.leader
	for {
		l.mu.Lock()
		ended, complete, passing, changed := l.ended, l.complete, l.passing, l.nextChange()
		if passing {
			l.forget(f)
		}
		if ended && complete && !passing {
			defer l.mu.Unlock()
			return l.whole(), l.extra, nil
		}
		l.mu.Unlock()
		if ended || passing {
			return nil, nil, ErrNoAnswer
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
