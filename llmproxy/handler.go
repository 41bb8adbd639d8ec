package llmproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
)

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	task, ours := gateway.Match(r.URL.Path)
	if !ours {
		if h.serveHealth(w, r) {
			return nil
		}
		return next.ServeHTTP(w, r)
	}
	rec := new(exchange.Record)
	h.closer.Enter()
	defer h.closer.Leave()
	h.observer.Begin(r, rec)
	defer h.observer.End(r, rec)
	h.gateway.Serve(w, r, task, rec)
	return nil
}
