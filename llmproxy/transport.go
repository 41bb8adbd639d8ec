package llmproxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

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
