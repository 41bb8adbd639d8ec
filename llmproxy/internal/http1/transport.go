// Package http1 is a lean client for nearby servers that speak plain HTTP/1.1. net/http's transport spends about 45 µs and two
// goroutines on a request, more than the rest of the gateway together. Here the goroutine that calls RoundTrip also writes and
// reads, and neither an idle connection nor a chunked answer holds a buffer.
//
// It decides which connection a request takes, and whether a request that failed may be sent again. It supports neither TLS nor
// HTTP/2, proxies, redirects, cookies or compression: upstreams that need one of these use Caddy's transport. It parses the
// usual heads of answers itself and leaves all others to net/http. It makes of any bytes what net/http's transport makes of them, except
// for the differences that differential_test.go lists with their reasons; a fuzz test accepts no others. It stands on the lowest floor
// and imports no other package of this project.
//
// With one goroutine, nothing is read before the request is written. If a server answers early and then neither reads on nor closes
// the connection, the request ends only with its context.
package http1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// staleAfter is how long after a request was sent its failure may still be due to a connection that the server was closing anyway.
// A request that fails later may have been processed, and may even have crashed the server, so it is not sent again.
const staleAfter = time.Second

// The defaults of a Transport.
const (
	defaultDialTimeout    = 3 * time.Second
	defaultIdleTimeout    = 90 * time.Second
	defaultMaxIdlePerHost = 512
)

// A Transport is an http.RoundTripper for http:// addresses. The zero Transport is ready. It is safe for concurrent use.
//
// Unlike net/http's, it closes a request's body before RoundTrip returns, and closes a connection at once when an answer's body is
// closed before its end, so that the upstream learns that the client has left. It sends the headers it is given and adds neither
// User-Agent nor Accept-Encoding.
type Transport struct {
	// DialTimeout bounds making a connection, name lookup included. Zero means 3 s.
	DialTimeout time.Duration
	// IdleTimeout is how long an idle connection may be reused. Zero means 90 s.
	IdleTimeout time.Duration
	// MaxIdlePerHost bounds the idle connections per address. Zero means 512.
	MaxIdlePerHost int

	stale time.Duration // for tests; zero means staleAfter

	mu      sync.Mutex
	idle    map[string][]*conn // by address, the most recently used last
	swept   time.Time          // when expired connections were last closed at all addresses
	closing bool               // connections that are returned are closed
}

// A DialError means that no connection could be made: nothing was sent, or only on a connection that its server had closed.
type DialError struct{ Err error }

// Error returns the text of the cause.
func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// RoundTrip implements http.RoundTripper. When the request's context has ended, the error wraps context.Cause.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := validate(req); err != nil {
		return nil, err
	}
	res, err := t.send(req)
	if err != nil {
		return nil, withCause(req.Context(), err)
	}
	return res, nil
}

// withCause adds the cause of the context's end to an error, if the context has ended: the connection only reports a timeout.
func withCause(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}

func (t *Transport) send(req *http.Request) (*http.Response, error) {
	ctx, body, address := req.Context(), req.Body, hostPort(req)
	if ctx.Err() != nil {
		return nil, errNotSent
	}
	if c := t.takeIdle(address); c != nil {
		sent := time.Now()
		res, err := c.exchange(req, body)
		if err == nil || !c.closedUnanswered(err) || ctx.Err() != nil || time.Since(sent) > cmp.Or(t.stale, staleAfter) {
			return res, err
		}
		// A server may close a connection at the moment it is reused. If no byte of an answer has come, the request is sent again
		// on a new connection, which cannot be stale (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
		again, reopenErr := reopenBody(req)
		if reopenErr != nil {
			return nil, err
		}
		defer again.Close()
		body = again
	}
	c, err := t.dial(ctx, address)
	if err != nil {
		return nil, &DialError{fmt.Errorf("connecting: %w", err)}
	}
	return c.exchange(req, body)
}

var (
	errNotSent   = errors.New("nothing was sent")
	errNoGetBody = errors.New("the body cannot be read again")
)

func reopenBody(req *http.Request) (io.ReadCloser, error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return http.NoBody, nil
	case req.GetBody == nil:
		return nil, errNoGetBody
	}
	return req.GetBody()
}

func hostPort(req *http.Request) string {
	if req.URL.Port() == "" {
		return net.JoinHostPort(req.URL.Hostname(), "80")
	}
	return req.URL.Host
}

func (t *Transport) dial(ctx context.Context, address string) (*conn, error) {
	dialer := net.Dialer{Timeout: cmp.Or(t.DialTimeout, defaultDialTimeout)}
	nc, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{t: t, address: address, nc: nc}
	c.interrupt = c.expire
	return c, nil
}

// takeIdle takes the most recently used open connection out of the pool, so that the others grow old and expire. It returns nil if
// no connection is open.
func (t *Transport) takeIdle(address string) *conn {
	for {
		c := t.popIdle(address)
		if c == nil {
			return nil
		}
		if time.Since(c.idleSince) < t.idleTimeout() && c.isOpen(c.nc) {
			return c
		}
		c.close()
	}
}

func (t *Transport) popIdle(address string) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = false
	list := t.idle[address]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	t.idle[address] = list[:len(list)-1]
	return c
}

// putIdle returns a connection to the pool, or closes it if the pool is full.
func (t *Transport) putIdle(c *conn) {
	c.idleSince = time.Now()
	expired, kept := t.pushIdle(c)
	for _, old := range expired {
		old.close()
	}
	if !kept {
		c.close()
	}
}

func (t *Transport) pushIdle(c *conn) (expired []*conn, kept bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || len(t.idle[c.address]) >= cmp.Or(t.MaxIdlePerHost, defaultMaxIdlePerHost) {
		return nil, false
	}
	if t.idle == nil {
		t.idle, t.swept = map[string][]*conn{}, c.idleSince
	}
	if c.idleSince.Sub(t.swept) >= t.idleTimeout() {
		expired = t.sweep(c.idleSince)
	}
	t.idle[c.address] = append(t.idle[c.address], c)
	return expired, true
}

// sweep removes the expired connections of all addresses from the pool. It runs once per IdleTimeout, when a request ends, so that
// neither a timer nor a goroutine is needed.
func (t *Transport) sweep(now time.Time) (expired []*conn) {
	t.swept = now
	for address, list := range t.idle {
		n := 0
		for n < len(list) && now.Sub(list[n].idleSince) >= t.idleTimeout() {
			n++
		}
		expired = append(expired, list[:n]...)
		if n == len(list) {
			delete(t.idle, address)
			continue
		}
		t.idle[address] = slices.Delete(list, 0, n)
	}
	return expired
}

func (t *Transport) idleTimeout() time.Duration { return cmp.Or(t.IdleTimeout, defaultIdleTimeout) }

// CloseIdleConnections closes the idle connections. Connections in use are closed when they are returned, unless a new request was
// made in between.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.closing = nil, true
	t.mu.Unlock()
	for _, list := range idle {
		for _, c := range list {
			c.close()
		}
	}
}
