package caching

import (
	"sync/atomic"
	"time"
)

// A breaker is the circuit breaker of a shared store. It opens after three failures in a row, for a second. When that is
// over it is half-open: one request tries the server, and if that fails too, the breaker stays open for twice as long, up to
// 30 s. The zero breaker is closed.
//
// The shared limits do not use it: for them, a server that fails once is replaced by this machine's share of the limits, and is
// used again only after what was spent meanwhile has been added to it. The breaker of a replica counts verdicts in a sliding
// window, and is a part of the replica's health.
type breaker struct {
	failures  atomic.Int64 // in a row
	openUntil atomic.Int64 // in Unix nanoseconds; 0 while closed
}

const (
	breakerFailures = 3
	breakerOpenFor  = time.Second
	breakerMaxOpen  = 30 * time.Second
)

// allow reports whether a request may use the server. While the breaker is half-open, it is true for one request.
func (b *breaker) allow() bool {
	until := b.openUntil.Load()
	if until == 0 {
		return true
	}
	now := time.Now()
	return now.UnixNano() >= until && b.openUntil.CompareAndSwap(until, now.Add(b.openFor()).UnixNano())
}

// isOpen reports whether the breaker is open or half-open. Unlike allow, it does not use up the one attempt.
func (b *breaker) isOpen() bool { return b.openUntil.Load() != 0 }

// openFor returns how long the breaker stays open after the failures so far.
func (b *breaker) openFor() time.Duration {
	doublings := min(max(b.failures.Load()-breakerFailures, 0), 5)
	return min(breakerOpenFor<<doublings, breakerMaxOpen)
}

// record records how the server did.
func (b *breaker) record(err error) {
	if err == nil {
		b.failures.Store(0)
		b.openUntil.Store(0)
		return
	}
	if b.failures.Add(1) >= breakerFailures {
		b.openUntil.Store(time.Now().Add(b.openFor()).UnixNano())
	}
}
