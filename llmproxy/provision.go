package llmproxy

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
)

// Provision implements caddy.Provisioner. It only builds: nothing outside of the process is touched before state.StartDelay.
//
// Its errors begin on a line of their own, after the path of the module that Caddy writes before them.
func (h *Handler) Provision(ctx caddy.Context) error {
	lines := adaptedLines.recall(h)
	if err := h.validate(); err != nil {
		return fmt.Errorf("\n%w", lines.locate(err))
	}
	h.warn(ctx.Logger(), lines)
	if err := h.provision(ctx); err != nil {
		return fmt.Errorf("\n%w", lines.locate(err))
	}
	return nil
}

func (h *Handler) provision(ctx caddy.Context) error {
	auto := len(h.Upstreams) == 0 && len(h.Models) == 0
	configs := h.Upstreams
	if auto {
		configs = usualUpstreams()
	}
	upstreams, err := provisionUpstreams(ctx, &h.closer, configs, auto)
	if err != nil {
		return err
	}
	models, err := provisionModels(ctx, upstreams, h.Models)
	if err != nil {
		return err
	}
	localOnly, err := loadMatcher(ctx, h, "LocalOnlyMatchRaw", len(h.LocalOnlyMatchRaw))
	if err != nil {
		return place("").in("local_only", 0).errorf("local_only: %w", err)
	}
	prices, err := loadPrices(h.Prices, h.PricesFile)
	if err != nil {
		return err
	}
	store, err := h.State.provision(ctx, &h.closer)
	if err != nil {
		return at(place("").in("state", 0), err)
	}
	h.usage = store.usage()
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	h.observer, err = telemetry.NewObserver(&h.closer, telemetry.Config{
		Context: ctx, Events: events.(*caddyevents.App), Models: models, Upstreams: upstreams, Usage: h.usage, Recent: overview.AcquireRecent(&h.closer),
	})
	if err != nil {
		return err
	}
	cache, err := h.Cache.provision(store)
	if err != nil {
		return err
	}
	acquireBallast(&h.closer)
	memory := acquireMemory(&h.closer, h.MaxMemory)
	if cache != nil {
		cache.Memory = memory.Half()
	}
	access, err := h.provisionAccess(ctx, store)
	if err != nil {
		return err
	}
	spillBudgets, err := h.provisionSpillBudgets(store)
	if err != nil {
		return err
	}
	discover := h.Discover || len(h.Models) == 0
	simpleChat, err := h.SimpleChat.choose(h.Models, h.Discover)
	if err != nil {
		return err
	}
	h.gateway = gateway.New(gateway.Config{
		Config: delivery.Config{
			Upstreams: upstreams, Prices: prices, AllowUnmetered: h.AllowUnmetered, Memory: memory, LogPrompts: h.LogPrompts, Address: clientNetwork, SpillBudgets: spillBudgets, Draining: drainOnExit(ctx),
			Observe: h.observer.AttemptFailed, Streaming: h.observer.StreamsChanged, Trace: h.observer.Trace, Changed: h.observer.ReplicaChanged,
		},
		Models: models, Discover: discover, Auto: auto || simpleChat == catalog.RuleAuto && len(h.Models) == 0, SimpleChat: simpleChat, MaxBody: h.MaxBody, Deadline: time.Duration(h.Deadline),
		Access: access, Affinity: acquireAffinity(&h.closer, h.Models), Stored: acquireStored(&h.closer), LocalOnly: localOnlyFunc(h.LocalOnly, localOnly),
		Cache: cache, Account: h.observer.Account,
	})
	h.closer.Add(h.gateway.Close)
	overview.Show(&h.closer, &overview.Site{Upstreams: upstreams, Access: access})
	running, end := context.WithCancel(context.Background())
	h.closer.Add(end)
	prefetch := time.AfterFunc(state.StartDelay, func() {
		h.gateway.WatchAll()
		for _, u := range upstreams {
			u.Prefetch(discover)
			go u.KeepWarm(running)
		}
	})
	h.closer.Add(func() { prefetch.Stop() })
	h.Models = nil // compiled; thousands of them would take megabytes
	releaseGarbage(&h.closer)
	return nil
}

// Cleanup implements caddy.CleanerUpper. Caddy calls it also after a Provision that failed, and while requests of this handler
// are active, which go on with what they hold. It flushes usage even then, because the process may exit before they end.
func (h *Handler) Cleanup() error {
	if !h.closer.Close() && h.usage != nil {
		h.usage.Flush() //nolint:errcheck // the ledger logs its errors
	}
	return nil
}

// localOnlyFunc returns a function that reports whether a request must stay on local upstreams: always, or if it matches. The
// function is nil if no request must. A request whose matcher fails stays local.
func localOnlyFunc(always bool, matcher *requestMatcher) func(*http.Request, *exchange.Record) bool {
	switch {
	case always:
		return func(*http.Request, *exchange.Record) bool { return true }
	case matcher != nil:
		return func(r *http.Request, rec *exchange.Record) bool {
			matched, err := matcher.match(r, rec)
			return matched || err != nil
		}
	}
	return nil
}

// maxDrainTime is how long open streams go on when the process exits. A shorter grace_period shortens it.
const maxDrainTime = 10 * time.Second

// isExiting reports whether the process exits. A reload shuts down the old server, too, but must not end its streams.
var isExiting = caddy.Exiting

// drainOnExit returns a context that is done shortly before Caddy's grace_period cuts open streams, so that they can end with
// an error event.
func drainOnExit(ctx caddy.Context) context.Context {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return context.Background() // provisioned outside of a server, by a test
	}
	draining, drain := context.WithCancel(context.Background())
	exiting := isExiting // read here: the shutdown may outlast the test that replaced it
	server.RegisterOnShutdown(func() {
		if exiting() {
			time.AfterFunc(drainTime(ctx), drain)
		}
	})
	return draining
}

func drainTime(ctx caddy.Context) time.Duration {
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return maxDrainTime
	}
	if grace := time.Duration(app.(*caddyhttp.App).GracePeriod); grace > 0 {
		return min(grace*3/4, maxDrainTime)
	}
	return maxDrainTime
}
