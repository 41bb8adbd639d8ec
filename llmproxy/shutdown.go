package llmproxy

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// drainDefault is how long open streams go on when the process is to end and no grace_period is set.
const drainDefault = 10 * time.Second

// exiting tells whether the process is to end; a reload shuts the old server down, too, and must not touch its streams.
var exiting = caddy.Exiting

// drainOnExit ends open streams with an error event before Caddy's grace_period would cut them.
func (h *Handler) drainOnExit() {
	server, ok := h.ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return // provisioned outside of a server, by a test
	}
	isExit := exiting // read here: a server's shutdown may outlast the test that replaced it
	server.RegisterOnShutdown(func() {
		if isExit() {
			time.AfterFunc(h.drainAfter(), h.drain)
		}
	})
}

func (h *Handler) drainAfter() time.Duration {
	app, err := h.ctx.AppIfConfigured("http")
	if err != nil {
		return drainDefault
	}
	if grace := time.Duration(app.(*caddyhttp.App).GracePeriod); grace > 0 {
		return min(grace*3/4, drainDefault)
	}
	return drainDefault
}
