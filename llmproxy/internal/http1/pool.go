package http1

import (
	"slices"
	"time"
)

// take gives an unused connection that is still alive, or nil. The one used last goes first: the others then grow old.
func (t *Transport) take(address string) *conn {
	for {
		c := t.pop(address)
		if c == nil {
			return nil
		}
		if time.Since(c.idleSince) < t.idleTimeout() && c.alive(c.nc) {
			return c
		}
		c.close()
	}
}

func (t *Transport) pop(address string) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired = false
	list := t.idle[address]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	t.idle[address] = list[:len(list)-1]
	return c
}

// put keeps a connection for the next request.
func (t *Transport) put(c *conn) {
	c.idleSince = time.Now()
	aged, kept := t.push(c)
	for _, old := range aged {
		old.close()
	}
	if !kept {
		c.close()
	}
}

func (t *Transport) push(c *conn) (aged []*conn, kept bool) {
	limit := t.MaxIdlePerHost
	if limit == 0 {
		limit = DefaultMaxIdlePerHost
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired || len(t.idle[c.address]) >= limit {
		return nil, false
	}
	if t.idle == nil {
		t.idle, t.swept = map[string][]*conn{}, c.idleSince
	}
	if c.idleSince.Sub(t.swept) >= t.idleTimeout() {
		aged = t.sweep(c.idleSince)
	}
	t.idle[c.address] = append(t.idle[c.address], c)
	return aged, true
}

// sweep takes out what waited too long, at any address. It runs once an IdleTimeout, with whatever request ends then, so
// that no clock and no goroutine is needed.
func (t *Transport) sweep(now time.Time) (aged []*conn) {
	t.swept = now
	for address, list := range t.idle {
		n := 0
		for n < len(list) && now.Sub(list[n].idleSince) >= t.idleTimeout() {
			n++
		}
		aged = append(aged, list[:n]...)
		if n == len(list) {
			delete(t.idle, address)
			continue
		}
		t.idle[address] = slices.Delete(list, 0, n)
	}
	return aged
}

func (t *Transport) idleTimeout() time.Duration {
	if t.IdleTimeout == 0 {
		return DefaultIdleTimeout
	}
	return t.IdleTimeout
}

// CloseIdleConnections closes the unused connections; those in use are closed when they come back, unless a new request
// was made since.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.retired = nil, true
	t.mu.Unlock()
	for _, list := range idle {
		for _, c := range list {
			c.close()
		}
	}
}
