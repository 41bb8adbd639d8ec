package llmproxy

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// firstLook is how long after Provision the upstreams are first asked what they have: a configuration that is only
// validated, or that fails to load, dials nobody.
const firstLook = 250 * time.Millisecond

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
	table, err := compile(upstreams, h.Models, h.rules)
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
	access, err := h.access()
	if err != nil {
		return err
	}
	draining, drain := context.WithCancel(context.Background())
	h.drain = drain
	config := gateway.Config{
		Upstreams: upstreams, Models: table, Discover: h.Discover || len(h.Models) == 0, Auto: auto,
		Access: access, Cache: cache, Prices: book, MaxBody: h.MaxBody, Deadline: time.Duration(h.Deadline), Draining: draining, Observe: h.observe,
		Streaming: streaming, Account: h.account, Trace: h.trace, LogPrompts: h.LogPrompts, Changed: h.changed,
	}
	h.ruled(&config)
	h.gateway = gateway.New(config)
	h.meters, h.troubles = newMeters(table), newTroubles()
	h.show(upstreams)
	h.closers = append(h.closers, h.gateway.Close)
	h.drainOnExit()
	h.lookSoon(upstreams)
	return nil
}

// take takes what Caddy gives to a module.
func (h *Handler) take(ctx caddy.Context) error {
	h.ctx, h.logger = ctx, ctx.Logger()
	if err := exposeMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("preparing events: %w", err)
	}
	h.events = events.(*caddyevents.App)
	return nil
}

// lookSoon asks the upstreams whose kind, slots or models matter, in the background, so that the first client does not wait for it.
func (h *Handler) lookSoon(upstreams []*upstream.Upstream) {
	timer := time.AfterFunc(firstLook, func() {
		h.gateway.WatchAll()
		for _, u := range upstreams {
			if u.Kind == upstream.Auto || u.Kind == upstream.LlamaCpp || h.Discover || len(h.Models) == 0 {
				go u.View(context.Background())
			}
			u.Inquire()
		}
	})
	h.closers = append(h.closers, func() { timer.Stop() })
}

// Cleanup implements caddy.CleanerUpper. It is called after a Provision that failed, too, and while requests of this handler
// are still under way: those go on with what they hold.
func (h *Handler) Cleanup() error {
	for _, f := range h.closers {
		f()
	}
	h.closers = nil
	shown.Delete(h)
	h.release()
	h.letGo()
	return nil
}
