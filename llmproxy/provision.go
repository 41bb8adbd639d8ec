package llmproxy

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// Provision implements caddy.Provisioner.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	upstreams, auto, err := h.upstreams()
	if err != nil {
		return err
	}
	if err := h.loadRules(); err != nil {
		return err
	}
	table, err := compile(upstreams, h.Models)
	if err != nil {
		return err
	}
	book, err := h.priceBook()
	if err != nil {
		return err
	}
	cache, err := h.cache()
	if err != nil {
		return err
	}
	client, err := h.redis()
	if err != nil {
		return err
	}
	h.used = h.usage(client)
	h.observer, err = telemetry.NewObserver(&h.closer, telemetry.Config{Context: ctx, Events: h.events, Models: table, Upstreams: upstreams, Usage: h.used})
	if err != nil {
		return err
	}
	access, err := h.access()
	if err != nil {
		return err
	}
	draining, drain := context.WithCancel(context.Background())
	h.drain = drain
	config := gateway.Config{
		Upstreams: upstreams, Models: table, Discover: h.Discover || len(h.Models) == 0, Auto: auto,
		Access: access, Cache: cache, Prices: book, MaxBody: h.MaxBody, Deadline: time.Duration(h.Deadline), Draining: draining, Observe: h.observer.AttemptFailed,
		Streaming: h.observer.StreamsChanged, Account: h.observer.Account, Trace: h.observer.Trace, LogPrompts: h.LogPrompts, Changed: h.observer.ReplicaChanged,
	}
	h.ruled(&config)
	h.gateway = gateway.New(config)
	h.observer.ShowReplicas(&h.closer)
	h.closer.Add(h.gateway.Close)
	h.drainOnExit()
	h.discoverSoon(upstreams)
	return nil
}

// take takes what Caddy gives to a module.
func (h *Handler) take(ctx caddy.Context) error {
	h.ctx, h.logger = ctx, ctx.Logger()
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("preparing events: %w", err)
	}
	h.events = events.(*caddyevents.App)
	return nil
}

// discoverSoon asks the upstreams in the background for what the first client would wait for otherwise.
func (h *Handler) discoverSoon(upstreams []*upstream.Upstream) {
	timer := time.AfterFunc(state.StartDelay, func() {
		h.gateway.WatchAll()
		for _, u := range upstreams {
			u.Prefetch(h.Discover || len(h.Models) == 0)
		}
	})
	h.closer.Add(func() { timer.Stop() })
}

// Cleanup implements caddy.CleanerUpper. It is called after a Provision that failed, too, and while requests of this handler
// are still under way: those go on with what they hold. What was used until now is written in any case: the process may end
// before they do.
func (h *Handler) Cleanup() error {
	if !h.closer.Close() && h.used != nil {
		h.used.Flush() //nolint:errcheck // was reported
	}
	return nil
}

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
