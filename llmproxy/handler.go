package llmproxy

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
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
	rec := &exchange.Record{Logged: logs(r)}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(telemetry.Placeholders(rec))
		defer func() {
			if rec.Key != "" {
				repl.Set(userID, rec.Key) // the access log's user_id
			}
		}()
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && rec.Logged {
		// The line is written when the handler has returned; the object is read then.
		extra.Add(zap.Object("llm", telemetry.Logged{Record: rec}))
	}
	h.closer.Enter()
	defer h.closer.Leave()
	telemetry.CountRequests(1)
	defer telemetry.CountRequests(-1)
	h.gateway.Serve(w, r, task, rec)
	if rec.Logged && rec.Key != "" {
		h.hintAtLogs(r)
	}
	return nil
}

// hintAtLogs says once that keys come in headers that Caddy logs: its copy of them is made before any handler runs, so that they cannot be
// hidden from here. Whether a filter takes them out cannot be seen from here either, which is why this is no warning.
func (h *Handler) hintAtLogs(r *http.Request) {
	if h.hinted.Load() || r.Header["X-Api-Key"] == nil && r.Header["Api-Key"] == nil || !h.hinted.CompareAndSwap(false, true) {
		return
	}
	h.logger.Info("clients send keys in the header X-Api-Key or Api-Key, which the access log shows unless its format filters it; see docs/keys.md")
}

// logs tells whether the site's server has an access log.
func logs(r *http.Request) bool {
	s, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && s.Logs != nil
}
