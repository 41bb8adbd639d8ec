// Package memory keeps account of the memory that requests may take together: their bodies, the answers that are held back, and the
// answers that are being recorded for the cache. Whatever grows with what a client or an upstream sends reserves its memory here
// before it allocates it, so that many requests at once cannot exhaust the machine.
//
// It counts bytes and knows nothing about what they hold, nor what to do when there are none left: its callers refuse a request, or
// send on what they would have kept. It stands on the lowest floor.
package memory

import (
	"errors"
	"sync/atomic"
)

// ErrUsedUp means that there was no memory left for an answer that can only be sent when all of it has been read.
var ErrUsedUp = errors.New("the memory for requests is used up, and the answer cannot be converted without holding it")

// Usage is how many bytes are reserved. There is one for the process, because all of its sites share the machine's memory. It survives
// reloads, and is safe for concurrent use. The zero Usage is ready.
type Usage struct{ bytes atomic.Int64 }

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

// Reserve reserves n bytes, which the caller must release. It reports false, and reserves nothing, if that would exceed the maximum.
func (a *Account) Reserve(n int64) bool {
	if a == nil {
		return true
	}
	if a.usage.bytes.Add(n) <= a.max {
		return true
	}
	a.usage.bytes.Add(-n)
	return false
}

// Release gives n reserved bytes back.
func (a *Account) Release(n int64) {
	if a != nil {
		a.usage.bytes.Add(-n)
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
