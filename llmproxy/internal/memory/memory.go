// Package memory keeps account of the memory that requests may take together: their bodies, the answers that are held back, and the
// answers that are being recorded for the cache. Whatever grows with what a client or an upstream sends reserves its memory here
// before it allocates it, so that many requests at once cannot exhaust the machine.
//
// It counts bytes, and decides who gets those that are given back: those who wait, in their order. It knows nothing about what the bytes
// hold, nor what to do when all are taken: its callers refuse a request, or send on what they would have kept. It stands on the
// lowest floor.
package memory

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrUsedUp means that there was no memory left for an answer that can only be sent when all of it has been read.
var ErrUsedUp = errors.New("the memory for requests is used up, and the answer cannot be converted without holding it")

// Usage is how many bytes are reserved, and who waits for some. There is one for the process, because all of its sites share the machine's
// memory. It survives reloads, and is safe for concurrent use. The zero Usage is ready.
type Usage struct {
	bytes   atomic.Int64
	waiting atomic.Int64 // the length of waiters, read without the lock

	mu      sync.Mutex
	waiters []*waiter // in the order in which they came
}

// A waiter waits for memory. It is granted by closing the channel, while Usage.mu is held.
type waiter struct {
	account *Account
	need    int64
	granted chan struct{}
}

// Bytes returns how many bytes are reserved.
func (u *Usage) Bytes() int64 { return u.bytes.Load() }

// An Account reserves memory within a maximum. Several accounts with different maxima may share a Usage. A nil *Account has no maximum and
// counts nothing.
type Account struct {
	usage *Usage
	max   int64
}

// NewAccount returns an Account that reserves at most maximum bytes, including what others have reserved of the same usage.
func NewAccount(usage *Usage, maximum int64) *Account { return &Account{usage, maximum} }

// Reserve reserves n bytes, which the caller must release. It reports false, and reserves nothing, if that would exceed the maximum. It
// does not care about those who wait: what can wait is large, and a small request should not be held up by it.
func (a *Account) Reserve(n int64) bool {
	if a == nil {
		return true
	}
	if a.usage.bytes.Add(n) <= a.max {
		return true
	}
	a.Release(n) // somebody may have been refused meanwhile what is left now
	return false
}

// Await is Reserve, but waits for memory until the context ends, after those who wait already. It does not wait for more than the maximum.
func (a *Account) Await(ctx context.Context, n int64) bool {
	switch {
	case a == nil:
		return true
	case a.usage.waiting.Load() == 0 && a.Reserve(n):
		return true
	case n > a.max || ctx.Err() != nil:
		return false
	}
	w := &waiter{account: a, need: n, granted: make(chan struct{})}
	a.usage.enqueue(w)
	select {
	case <-w.granted:
		return true
	case <-ctx.Done():
		return a.usage.leave(w)
	}
}

// enqueue adds a waiter, and grants what has been given back before it was seen.
func (u *Usage) enqueue(w *waiter) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiters = append(u.waiters, w)
	u.waiting.Add(1)
	u.grant()
}

// leave removes a waiter, and reports whether it was granted its memory after all. Those behind it may need less.
func (u *Usage) leave(w *waiter) (granted bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.Index(u.waiters, w)
	if i < 0 {
		return true
	}
	u.remove(i)
	u.grant()
	return false
}

// grant reserves memory for those who wait, until it does not suffice for the next one. The caller holds mu.
func (u *Usage) grant() {
	for len(u.waiters) > 0 {
		w := u.waiters[0]
		if u.bytes.Add(w.need) > w.account.max {
			u.bytes.Add(-w.need)
			return
		}
		u.remove(0)
		close(w.granted)
	}
}

// remove removes the waiter at an index. The caller holds mu.
func (u *Usage) remove(i int) {
	u.waiters = slices.Delete(u.waiters, i, i+1)
	u.waiting.Add(-1)
}

// Release gives n reserved bytes back.
func (a *Account) Release(n int64) {
	if a == nil {
		return
	}
	a.usage.bytes.Add(-n)
	if a.usage.waiting.Load() > 0 {
		a.usage.mu.Lock()
		defer a.usage.mu.Unlock()
		a.usage.grant()
	}
}

// Half returns an account of the same usage with half of the maximum: for what can be done without, so that it leaves memory to the rest.
func (a *Account) Half() *Account {
	if a == nil {
		return nil
	}
	return &Account{a.usage, a.max / 2}
}

// CouldHold reports whether n bytes could be reserved if nothing else were.
func (a *Account) CouldHold(n int64) bool { return a == nil || n <= a.max }
