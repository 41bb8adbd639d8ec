package state

import (
	"slices"
	"sync"
)

// A Closer owns the resources of one handler and releases them in reverse order. Resources that requests need until they end
// are released after the last request, because Caddy cleans up a configuration while its streams are still open. The zero
// Closer is ready to use.
type Closer struct {
	mu       sync.Mutex
	closers  []func()
	lasting  []func()
	requests int
	closed   bool
}

// Add adds a function that Close calls.
func (c *Closer) Add(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, f)
}

// AddLasting adds a function to call after Close and after the last request.
func (c *Closer) AddLasting(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lasting = append(c.lasting, f)
}

// Enter counts a request as active until Leave.
func (c *Closer) Enter() {
	c.mu.Lock()
	c.requests++
	c.mu.Unlock()
}

// Leave ends a request.
func (c *Closer) Leave() {
	c.mu.Lock()
	c.requests--
	c.unlockAndCloseLasting()
}

// Close calls the functions that were added, and the lasting ones too if no request is active. It reports whether it called
// them all.
func (c *Closer) Close() bool {
	c.mu.Lock()
	closers := c.closers
	c.closers, c.closed = nil, true
	c.mu.Unlock()
	for _, f := range slices.Backward(closers) {
		f()
	}
	c.mu.Lock()
	return c.unlockAndCloseLasting()
}

// unlockAndCloseLasting is called with mu held, and calls the functions without it.
func (c *Closer) unlockAndCloseLasting() bool {
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
