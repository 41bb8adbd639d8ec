package llmproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
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
		h.closers = append(h.closers, lean.CloseIdleConnections)
		return leanTransport{lean}, nil
	}
	stock := &reverseproxy.HTTPTransport{
		DialTimeout: u.DialTimeout,
		KeepAlive:   &reverseproxy.KeepAlive{MaxIdleConnsPerHost: idlePerHost},
	}
	if err := stock.Provision(h.ctx); err != nil {
		return nil, fmt.Errorf("preparing connections: %w", err)
	}
	h.closers = append(h.closers, func() { stock.Cleanup() }) //nolint:errcheck // closes idle connections
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
		err = &upstream.NotSentError{Err: err}
	}
	return res, err
}

// guest is a transport of Caddy's. Each attempt gets variables of its own: the transport dials in a goroutine that goes on
// reading them when the handler has moved on. Probes, which come from no request, get a replacer too.
type guest struct {
	http.RoundTripper
	// traces tells that it is net/http's, which says when it has a connection. The others say it with a DialError at most.
	traces bool
}

func guestOf(t http.RoundTripper) guest {
	_, stock := t.(*reverseproxy.HTTPTransport)
	return guest{t, stock}
}

// RoundTrip implements http.RoundTripper.
func (g guest) RoundTrip(req *http.Request) (*http.Response, error) {
	client := req.Context()
	ctx := guestContext{Context: client, client: client, vars: map[string]any{}}
	if client.Value(caddy.ReplacerCtxKey) == nil {
		ctx.replacer = caddy.NewReplacer()
	}
	var connecting connecting
	if g.traces {
		ctx.Context = httptrace.WithClientTrace(client, &httptrace.ClientTrace{GetConn: connecting.begin, GotConn: connecting.end})
	}
	res, err := g.RoundTripper.RoundTrip(req.WithContext(&ctx))
	var dial reverseproxy.DialError
	if err != nil && (connecting.Load() || errors.As(err, &dial)) {
		err = &upstream.NotSentError{Err: err}
	}
	return res, err
}

// connecting tells that a connection is being made: what fails then, TLS for one, has sent nothing.
type connecting struct{ atomic.Bool }

func (c *connecting) begin(string)              { c.Store(true) }
func (c *connecting) end(httptrace.GotConnInfo) { c.Store(false) }

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
