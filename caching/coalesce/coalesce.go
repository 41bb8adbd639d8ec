// Package coalesce lets identical concurrent requests share one upstream call, as singleflight does, but with answers that
// are streamed: the leader records the answer, and its followers read it as it arrives, as does the leader's own client.
//
// The recordings of all leaders are bounded together. An answer that does not fit is passed on instead: the leader keeps only what one of its
// readers has still to read, and waits for the slowest of them.
//
// It decides who leads, and stops the leader when no client is left to want the answer. It does not know what a key or an
// answer means. It stands on the lowest floor, below caching.
package coalesce

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Span is a part of a recorded answer, in bytes.
type Span struct{ Start, End int }

// Limits bound what is recorded, in bytes.
type Limits struct {
	// Answer is the maximum size of an answer that is stored and shared with new followers.
	Answer int64
	// Total is the maximum size of all answers that are being recorded or still read from the recording.
	Total int64
	// Memory, if it is not nil, must hold them as well.
	Memory Memory
}

// Memory is an account of memory that others use, too.
type Memory interface {
	// Reserve reserves bytes. It reports false, and reserves nothing, if there are not so many.
	Reserve(bytes int64) bool
	Release(bytes int64)
}

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
	group  *Group[K, H]
	key    K
	limits Limits
	stop   func()

	// Guarded by group.mu.
	followers  int
	clientLeft bool
	finished   bool // there is nothing left to stop

	mu          sync.Mutex
	changed     chan struct{} // closed at the next change; nil if no reader waits
	read        chan struct{} // closed when a reader has read or left; nil if the leader does not wait for that
	readers     []*Follower[K, H]
	shared      bool // somebody else than its own client has read the answer, and may keep what it has got
	head        *H
	pieces      []piece // recorded, and not released yet
	size        int     // of all that was recorded, released or not
	extra       []Span
	passing     bool // the answer is not recorded any more, but passed on
	closed      bool // nobody will join
	interrupted bool
	ended       bool
	complete    bool
}

// A piece is a part of the recorded answer.
type piece struct {
	start    int
	bytes    []byte
	reserved bool    // its capacity is
	memory   *[]byte // of the bytes, as its pool has it; nil if it is not pooled
}

func (p *piece) end() int { return p.start + len(p.bytes) }

const (
	// maxPiece bounds the memory that is reserved in advance of an answer.
	maxPiece = 64 << 10
	// maxStall is how long a client that reads nothing may hold up others that want the same answer.
	maxStall = 30 * time.Second
)

// PendingBytes returns the size of what all leaders have recorded.
func (g *Group[K, H]) PendingBytes() int64 { return g.pending.Load() }

// ClosedCount returns how many leaders have closed so far. If it changes during a lookup in a store, the store may hold an
// answer that the lookup missed.
func (g *Group[K, H]) ClosedCount() uint64 { return g.closed.Load() }

// Reserve reserves memory within the limits. It reports false, and reserves nothing, if there is not so much.
func (g *Group[K, H]) Reserve(bytes int64, limits Limits) bool {
	if g.pending.Add(bytes) <= limits.Total && (limits.Memory == nil || limits.Memory.Reserve(bytes)) {
		return true
	}
	g.pending.Add(-bytes)
	return false
}

// Release releases what Reserve reserved.
func (g *Group[K, H]) Release(bytes int64, limits Limits) {
	g.pending.Add(-bytes)
	if limits.Memory != nil {
		limits.Memory.Release(bytes)
	}
}

// Join returns a follower of the leader of a key, which the caller must close. If there is no leader, the caller becomes it: then
// follower is nil. The leader calls stop when no client is left that wants its answer.
func (g *Group[K, H]) Join(key K, limits Limits, stop func()) (leader *Leader[K, H], follower *Follower[K, H]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if leader := g.leaders[key]; leader != nil {
		leader.followers++
		return nil, leader.newReader(false)
	}
	leader = &Leader[K, H]{group: g, key: key, limits: limits, stop: stop}
	if g.leaders == nil {
		g.leaders = map[K]*Leader[K, H]{}
	}
	g.leaders[key] = leader
	return leader, nil
}

// Private returns a leader that has no followers: for a client that wants a new answer, which is to be stored.
func (g *Group[K, H]) Private(limits Limits, stop func()) *Leader[K, H] {
	return &Leader[K, H]{group: g, limits: limits, stop: stop}
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

// Begun reports whether the answer has begun.
func (l *Leader[K, H]) Begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head != nil
}

// Expect makes room for the next n bytes of the answer, so that their parts need not be joined in the end. It does nothing if that exceeds a
// limit: Write finds out.
func (l *Leader[K, H]) Expect(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.passing && int64(l.size+n) <= l.limits.Answer && l.room() < n {
		l.grow(n)
	}
}

// Write records a part of the answer, which each reader gets whole. Extra marks bytes that not every client gets. An answer that exceeds
// the limits is not stored and not shared with new followers. From then on, Write waits for the readers. It reports false if it was
// interrupted.
func (l *Leader[K, H]) Write(p []byte, extra bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if extra {
		l.extra = append(l.extra, Span{l.size, l.size + len(p)})
	}
	if !l.passing && l.record(p) {
		l.wake()
		return true
	}
	if !l.passing {
		l.mu.Unlock()
		l.group.mu.Lock()
		l.remove()
		l.group.mu.Unlock()
		l.mu.Lock()
		l.passing = true
		l.wake()
	}
	if !l.awaitReaders() {
		return false
	}
	l.pieces = append(l.pieces, piece{start: l.size, bytes: slices.Clone(p)})
	l.size += len(p)
	l.release()
	l.wake()
	return true
}

// record records a part of the answer. It reports false, and records nothing, if that exceeds a limit. The caller holds mu.
func (l *Leader[K, H]) record(p []byte) bool {
	if int64(l.size+len(p)) > l.limits.Answer {
		return false
	}
	if (len(l.pieces) == 0 || l.room() < len(p)) && !l.grow(max(len(p), min(l.size, maxPiece))) {
		return false
	}
	last := &l.pieces[len(l.pieces)-1]
	last.bytes = append(last.bytes, p...)
	l.size += len(p)
	return true
}

// room returns how many bytes the last piece has room for. The caller holds mu.
func (l *Leader[K, H]) room() int {
	if len(l.pieces) == 0 {
		return 0
	}
	last := l.pieces[len(l.pieces)-1].bytes
	return cap(last) - len(last)
}

// grow adds an empty piece with room for n bytes. It reports false if that exceeds a limit. The caller holds mu.
func (l *Leader[K, H]) grow(n int) bool {
	capacity := sizeFor(n)
	if !l.group.Reserve(int64(capacity), l.limits) {
		return false
	}
	p := piece{start: l.size, reserved: true}
	p.bytes, p.memory = newMemory(capacity)
	l.pieces = append(l.pieces, p)
	return true
}

// awaitReaders waits until the readers have read all that was recorded. A reader that stalls is cut off if another one waits for more.
// It reports false if the leader is interrupted. The caller holds mu, which awaitReaders releases meanwhile.
func (l *Leader[K, H]) awaitReaders() bool {
	for !l.interrupted {
		behind := l.slowest()
		if behind == nil {
			return true
		}
		var stalled <-chan time.Time
		stop := func() bool { return true }
		if slices.ContainsFunc(l.readers, func(f *Follower[K, H]) bool { return f.done == l.size }) {
			timer := time.NewTimer(time.Until(behind.readAt.Add(maxStall)))
			stalled, stop = timer.C, timer.Stop
		}
		l.read = make(chan struct{})
		read := l.read
		l.mu.Unlock()
		select {
		case <-read:
		case <-stalled:
		}
		stop()
		l.mu.Lock()
		l.read = nil
		if stalled != nil && behind.done < l.size && time.Since(behind.readAt) >= maxStall {
			behind.tooSlow = true
			l.forget(behind)
		}
	}
	return false
}

// slowest returns the reader that has not read all that was recorded, and has been waited for the longest; nil if all have. The
// caller holds mu.
func (l *Leader[K, H]) slowest() (slowest *Follower[K, H]) {
	for _, f := range l.readers {
		if f.done < l.size && (slowest == nil || f.readAt.Before(slowest.readAt)) {
			slowest = f
		}
	}
	return slowest
}

// Waiting reports whether Write waits for a reader.
func (l *Leader[K, H]) Waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read != nil
}

// Interrupt makes Write fail, now and from now on, if it waits for a reader.
func (l *Leader[K, H]) Interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupted = true
	l.noteRead()
}

// noteRead wakes the leader. The caller holds mu.
func (l *Leader[K, H]) noteRead() {
	if l.read != nil {
		close(l.read)
		l.read = nil
	}
}

// release releases what is not needed any more: what all readers have read of an answer that nobody else can read. The caller holds
// mu.
func (l *Leader[K, H]) release() {
	if !l.passing && !l.closed {
		return
	}
	needed := l.size
	for _, f := range l.readers {
		needed = min(needed, f.done)
	}
	n := 0
	for n < len(l.pieces) && l.pieces[n].end() <= needed {
		p := &l.pieces[n]
		if p.reserved {
			l.group.Release(int64(cap(p.bytes)), l.limits)
		}
		if p.memory != nil && !l.shared {
			recycle(p.memory)
		}
		n++
	}
	l.pieces = slices.Delete(l.pieces, 0, n)
}

// Answer returns the recorded answer. Ok reports whether it may be stored. The body is valid until Close.
func (l *Leader[K, H]) Answer() (h H, body []byte, extra []Span, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil || l.passing {
		return h, nil, nil, false
	}
	return *l.head, l.whole(), l.extra, true
}

// whole returns all that was recorded, in one piece, which is the only one from then on. The answer must have ended. The caller
// holds mu.
func (l *Leader[K, H]) whole() []byte {
	if len(l.pieces) == 0 {
		return nil
	}
	if len(l.pieces) > 1 {
		joined, reserved := make([]byte, 0, l.size), int64(0)
		for _, p := range l.pieces {
			joined = append(joined, p.bytes...)
			reserved += int64(cap(p.bytes))
		}
		l.pieces = []piece{{bytes: joined, reserved: true}}
		l.group.Release(reserved-int64(cap(joined)), l.limits) // no piece was smaller than what it held
	}
	return l.pieces[0].bytes
}

// Finish ends the answer for all readers. Complete says whether it came to its proper end.
func (l *Leader[K, H]) Finish(complete bool) {
	l.group.mu.Lock()
	l.finished = true
	l.group.mu.Unlock()
	l.mu.Lock()
	l.ended, l.complete = true, complete
	l.wake()
	l.mu.Unlock()
}

// Close lets the next request with the same key lead. It must be called after the answer was stored, so that the next request
// either follows or finds it. What was recorded is released once it is read.
func (l *Leader[K, H]) Close() {
	l.group.closed.Add(1)
	l.group.mu.Lock()
	l.remove()
	l.group.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.release()
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
