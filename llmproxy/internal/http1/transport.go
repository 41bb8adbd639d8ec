package http1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// staleAfter is the latest that a connection which its server was closing shows it. A request that fails after it may have
// been at work, and may be what its server died of: it is not sent again.
const staleAfter = time.Second

// The defaults of a Transport.
const (
	DefaultDialTimeout    = 3 * time.Second
	DefaultIdleTimeout    = 90 * time.Second
	DefaultMaxIdlePerHost = 512
)

// A Transport is an http.RoundTripper for http:// addresses. The zero Transport is ready. It is safe for concurrent use.
//
// Unlike net/http's, it closes a request's body before RoundTrip returns, and closes a connection at once when an answer's
// body is closed before its end: that is how an upstream learns that nobody waits for it. It sends the headers it is given
// and adds no User-Agent and no Accept-Encoding.
type Transport struct {
	// DialTimeout bounds making a connection, name lookup included. Zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// IdleTimeout is how long an unused connection may be taken again. Zero means DefaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxIdlePerHost bounds the unused connections per address. Zero means DefaultMaxIdlePerHost.
	MaxIdlePerHost int

	stale time.Duration // for tests; zero means staleAfter

	mu      sync.Mutex
	idle    map[string][]*conn // the one used last is the last
	swept   time.Time          // when all of idle was looked through
	retired bool               // connections that come back are closed
}

// A DialError says that no connection could be made: nothing was sent, or only on a connection that its server had closed.
type DialError struct{ Err error }

// Error gives the cause in its own words.
func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *DialError) Unwrap() error { return e.Err }

// RoundTrip implements http.RoundTripper. When the request's context has ended, the error wraps context.Cause.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := check(req); err != nil {
		return nil, err
	}
	res, err := t.send(req)
	if err != nil {
		return nil, ended(req.Context(), err)
	}
	return res, nil
}

// ended says why an exchange failed: the end of its context looks like a time-out of the connection.
func ended(ctx context.Context, err error) error {
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
	if c := t.take(address); c != nil {
		sent := time.Now()
		res, err := c.exchange(req, body)
		if err == nil || !c.unanswered(err) || ctx.Err() != nil || time.Since(sent) > cmp.Or(t.stale, staleAfter) {
			return res, err
		}
		// A server may close a connection in the moment in which it is used again. Nothing of an answer has come then, and
		// the request goes out once more, on a connection that cannot be stale (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
		again, reopenErr := reopen(req)
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

func reopen(req *http.Request) (io.ReadCloser, error) {
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
	timeout := t.DialTimeout
	if timeout == 0 {
		timeout = DefaultDialTimeout
	}
	dialer := net.Dialer{Timeout: timeout}
	nc, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{t: t, address: address, nc: nc}
	c.giveUp = c.expire
	return c, nil
}
