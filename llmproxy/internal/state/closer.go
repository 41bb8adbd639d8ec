package state

import (
	"slices"
	"sync"
)

// A Closer owns the clean-up of one handler. What was added last is closed first. Some of it is closed with the handler; what
// requests need to their end is closed after the last one, because a configuration is cleaned up while its streams go on. The
// zero Closer is ready.
type Closer struct {
	mu       sync.Mutex
	closers  []func()
	lasting  []func()
	requests int
	closed   bool
}

// Add adds what is to be closed with the handler.
func (c *Closer) Add(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, f)
}

// AddLasting adds what is to be closed after the last request.
func (c *Closer) AddLasting(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lasting = append(c.lasting, f)
}

// Enter counts a request among those under way; Leave must follow.
func (c *Closer) Enter() {
	c.mu.Lock()
	c.requests++
	c.mu.Unlock()
}

// Leave ends a request.
func (c *Closer) Leave() {
	c.mu.Lock()
	c.requests--
	c.closeLasting()
}

// Close closes what ends with the handler, and what lasts, when no request is under way: now, as a rule. It reports whether all
// is closed.
func (c *Closer) Close() bool {
	c.mu.Lock()
	closers := c.closers
	c.closers, c.closed = nil, true
	c.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
	c.mu.Lock()
	return c.closeLasting()
}

// closeLasting takes over the lock and gives it back.
func (c *Closer) closeLasting() bool {
	if !c.closed || c.requests > 0 {
		c.mu.Unlock()
		return false
	}
	lasting := c.lasting
	c.lasting = nil
	c.mu.Unlock()
	for _, f := range slices.Backward(lasting) {
		f()
	}
	return true
}
