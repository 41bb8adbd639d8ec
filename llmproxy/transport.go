package llmproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/http1"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// idlePerHost is how many idle connections to keep to an address. Caddy's default of 32 costs a third more CPU at 256 clients.
const idlePerHost = 512

// transport returns the transport for requests to the upstream.
func (u *Upstream) transport(ctx caddy.Context, closer *state.Closer, bases []*url.URL) (http.RoundTripper, error) {
	if u.TransportRaw != nil {
		module, err := ctx.LoadModule(u, "TransportRaw")
		if err != nil {
			return nil, fmt.Errorf("loading the transport: %w", err)
		}
		return newCaddyTransport(module.(http.RoundTripper)), nil
	}
	if !slices.ContainsFunc(bases, func(b *url.URL) bool { return b.Scheme != "http" }) {
		lean := &http1.Transport{DialTimeout: time.Duration(u.DialTimeout), MaxIdlePerHost: idlePerHost}
		closer.Add(lean.CloseIdleConnections)
		return leanTransport{lean}, nil
	}
	stock := &reverseproxy.HTTPTransport{
		DialTimeout: u.DialTimeout,
		KeepAlive:   &reverseproxy.KeepAlive{MaxIdleConnsPerHost: idlePerHost},
	}
	if err := stock.Provision(ctx); err != nil {
		return nil, fmt.Errorf("provisioning the transport: %w", err)
	}
	closer.Add(func() { stock.Cleanup() }) //nolint:errcheck // it closes idle connections
	return newCaddyTransport(stock), nil
}

// leanTransport returns errors of connecting as an upstream.ConnectError, as caddyTransport does.
type leanTransport struct{ *http1.Transport }

// RoundTrip implements http.RoundTripper.
func (t leanTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.Transport.RoundTrip(req)
	var dial *http1.DialError
	if errors.As(err, &dial) {
		err = &upstream.ConnectError{Err: err}
	}
	return res, err
}

// caddyTransport adapts a transport of Caddy's. Each attempt gets a vars map of its own, because the transport dials in a
// goroutine that may read the map after the handler has moved on. Probes, which belong to no request, get a replacer, too.
type caddyTransport struct {
	http.RoundTripper
	// traces reports whether it is based on net/http's, which traces its connections. Other transports only return a DialError.
	traces bool
}

func newCaddyTransport(t http.RoundTripper) caddyTransport {
	_, stock := t.(*reverseproxy.HTTPTransport)
	return caddyTransport{t, stock}
}

// staleWindow is how long after a request was sent on an idle connection the server's close of that connection may arrive. A
// request that fails later may have been processed, and is not sent again.
const staleWindow = time.Second

// RoundTrip implements http.RoundTripper. It sends a request again if the server was just closing the idle connection, as the
// lean transport does. net/http does so only for methods that it considers idempotent, and POST is not.
func (t caddyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	started := time.Now()
	for {
		var c connTrace
		res, err := t.roundTripOnce(req, &c)
		var dial reverseproxy.DialError
		switch {
		case err == nil:
			return res, nil
		case c.connecting.Load() || errors.As(err, &dial):
			return nil, &upstream.ConnectError{Err: err}
		case !c.isStale(err) || time.Since(started) > staleWindow || req.Context().Err() != nil:
			return nil, err
		}
		again, ok := rewindRequest(req)
		if !ok {
			return nil, err
		}
		req = again
	}
}

func (t caddyTransport) roundTripOnce(req *http.Request, c *connTrace) (*http.Response, error) {
	attempt := req.Context()
	ctx := transportContext{Context: attempt, vars: map[string]any{}}
	if attempt.Value(caddy.ReplacerCtxKey) == nil {
		ctx.replacer = caddy.NewReplacer()
	}
	if t.traces {
		ctx.Context = httptrace.WithClientTrace(attempt, c.hooks())
	}
	return t.RoundTripper.RoundTrip(req.WithContext(&ctx))
}

// rewindRequest returns the request with its body from the start. It reports false if the body cannot be read again.
func rewindRequest(req *http.Request) (*http.Request, bool) {
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again := req.WithContext(req.Context())
	again.Body = body
	return again, true
}

// connTrace is what net/http reports about the connection of a request, partly from other goroutines.
type connTrace struct {
	connecting atomic.Bool // nothing was sent if it fails now, for example during the TLS handshake
	reused     atomic.Bool
	answered   atomic.Bool
}

func (c *connTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { c.connecting.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			c.connecting.Store(false)
			c.reused.Store(info.Reused)
		},
		GotFirstResponseByte: func() { c.answered.Store(true) },
	}
}

// isStale reports whether the server had closed the connection before it read the request.
func (c *connTrace) isStale(err error) bool {
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return closed && c.reused.Load() && !c.answered.Load()
}

// transportContext is the context of an attempt with the values that transports of Caddy's need: one value context instead of
// two.
type transportContext struct {
	context.Context
	vars     map[string]any
	replacer *caddy.Replacer // nil if the request has one
}

// Value implements context.Context.
func (c *transportContext) Value(key any) any {
	switch {
	case key == caddyhttp.VarsCtxKey:
		return c.vars
	case key == caddy.ReplacerCtxKey && c.replacer != nil:
		return c.replacer
	}
	return c.Context.Value(key)
}
