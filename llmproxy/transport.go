package llmproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/http1"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// idlePerHost is how many unused connections are kept for an address: Caddy's 32 cost a third more CPU at 256 clients.
const idlePerHost = 512

// transport makes what carries an upstream's requests.
func (h *Handler) transport(u *Upstream, bases []*url.URL) (http.RoundTripper, error) {
	if u.TransportRaw != nil {
		module, err := h.ctx.LoadModule(u, "TransportRaw")
		if err != nil {
			return nil, fmt.Errorf("loading the transport: %w", err)
		}
		return guestOf(module.(http.RoundTripper)), nil
	}
	if allPlain(bases) {
		lean := &http1.Transport{DialTimeout: time.Duration(u.DialTimeout), MaxIdlePerHost: idlePerHost}
		h.closer.Add(lean.CloseIdleConnections)
		return leanTransport{lean}, nil
	}
	stock := &reverseproxy.HTTPTransport{
		DialTimeout: u.DialTimeout,
		KeepAlive:   &reverseproxy.KeepAlive{MaxIdleConnsPerHost: idlePerHost},
	}
	if err := stock.Provision(h.ctx); err != nil {
		return nil, fmt.Errorf("preparing connections: %w", err)
	}
	h.closer.Add(func() { stock.Cleanup() }) //nolint:errcheck // closes idle connections
	return guestOf(stock), nil
}

func allPlain(bases []*url.URL) bool {
	for _, b := range bases {
		if b.Scheme != "http" {
			return false
		}
	}
	return true
}

// leanTransport says in upstream's words that nothing was sent.
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

// guest is a transport of Caddy's. Each attempt gets variables of its own: the transport dials in a goroutine that goes on
// reading them when the handler has moved on. Probes, which come from no request, get a replacer too.
type guest struct {
	http.RoundTripper
	// traces tells that it is net/http's, which tells of its connections. Of the others only a DialError says something.
	traces bool
}

func guestOf(t http.RoundTripper) guest {
	_, stock := t.(*reverseproxy.HTTPTransport)
	return guest{t, stock}
}

// staleAfter is the latest that a connection which its server was closing shows it. A request that fails after it may have
// been at work, and is not sent again.
const staleAfter = time.Second

// RoundTrip implements http.RoundTripper. A request that met with a connection which its server was closing goes out once more,
// as with the lean client: net/http does that only for what it takes for harmless, and a POST is not.
func (g guest) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	for {
		var t trip
		res, err := g.once(req, &t)
		var dial reverseproxy.DialError
		switch {
		case err == nil:
			return res, nil
		case t.connecting.Load() || errors.As(err, &dial):
			return nil, &upstream.ConnectError{Err: err}
		case !t.stale(err) || time.Since(began) > staleAfter || req.Context().Err() != nil:
			return nil, err
		}
		again, ok := reopened(req)
		if !ok {
			return nil, err
		}
		req = again
	}
}

func (g guest) once(req *http.Request, t *trip) (*http.Response, error) {
	client := req.Context()
	ctx := guestContext{Context: client, client: client, vars: map[string]any{}}
	if client.Value(caddy.ReplacerCtxKey) == nil {
		ctx.replacer = caddy.NewReplacer()
	}
	if g.traces {
		ctx.Context = httptrace.WithClientTrace(client, t.trace())
	}
	return g.RoundTripper.RoundTrip(req.WithContext(&ctx))
}

// reopened is a request that can be sent again.
func reopened(req *http.Request) (*http.Request, bool) {
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

// A trip is what net/http tells of one sending of a request, from goroutines of its own, too.
type trip struct {
	connecting atomic.Bool // a connection is being made: what fails then, TLS for one, has sent nothing
	reused     atomic.Bool
	answered   atomic.Bool
}

func (t *trip) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { t.connecting.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			t.connecting.Store(false)
			t.reused.Store(info.Reused)
		},
		GotFirstResponseByte: func() { t.answered.Store(true) },
	}
}

// stale tells whether the server had closed the connection before it heard of the request.
func (t *trip) stale(err error) bool {
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return closed && t.reused.Load() && !t.answered.Load()
}

// A guestContext is an attempt's context with what transports of Caddy's look for.
type guestContext struct {
	context.Context
	client   context.Context // the attempt's own
	vars     map[string]any
	replacer *caddy.Replacer // nil where the request has one
}

// Value implements context.Context.
func (c *guestContext) Value(key any) any {
	switch {
	case key == caddyhttp.VarsCtxKey:
		return c.vars
	case key == caddy.ReplacerCtxKey && c.replacer != nil:
		return c.replacer
	}
	return c.Context.Value(key)
}

// AfterFunc spares package context a goroutine for each request: it cannot look into a context that is none of its own.
func (c *guestContext) AfterFunc(call func()) (stop func() bool) {
	return context.AfterFunc(c.client, call)
}
