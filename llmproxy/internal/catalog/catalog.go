// Package catalog knows which models there are: those that the configuration names, and those that upstreams really have. It
// finds the plan for a model's name, lists models for clients, and reports what can be served now.
//
// It never generates and never writes to a client. It stands above exchange.
package catalog

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// RuleAuto is the rule, and the name, that a gateway nobody configured serves with whatever is there.
const RuleAuto = "auto"

// RuleDiscover is the rule of models that no configuration names, but an upstream has.
const RuleDiscover = "discover"

// A Catalog knows which models there are. It is safe for concurrent use.
type Catalog struct {
	Upstreams []*upstream.Upstream
	// Models finds the plan for a configured name.
	Models *router.Table
	// Discover serves the models that the upstreams have under their own names.
	Discover bool
	// Auto serves the name "auto" with the first upstream that is present, in their order.
	Auto bool

	discovered atomic.Pointer[discovered]
}

// discovered are the plans for the models of the latest discoveries; they are rebuilt when one of these has changed.
type discovered struct {
	discoveries []*upstream.Discovery
	plans       map[string]*router.Plan
}

// Plan finds the plan for a model: configured name, pattern, then what upstreams really have.
func (c *Catalog) Plan(ctx context.Context, model string, localOnly bool) (*router.Plan, *openai.Error) {
	if plan, ok := c.Models.Lookup(model); ok {
		return plan, nil
	}
	if c.Auto && model == RuleAuto {
		return c.auto(ctx, localOnly)
	}
	if !c.Discover {
		return nil, exchange.ModelNotFound(model)
	}
	if plan, ok := c.find(ctx, model); ok {
		return plan, nil
	}
	c.each(func(u *upstream.Upstream) { u.Rediscover(ctx) }) // it may have been added since
	if plan, ok := c.find(ctx, model); ok {
		return plan, nil
	}
	if silent := c.silent(ctx); silent != "" {
		return nil, exchange.NoUpstream("No upstream that answers has the model \"" + model + "\", and these do not answer: " + silent + ".")
	}
	return nil, exchange.ModelNotFound(model)
}

// auto takes the first upstream that is present and may be asked.
func (c *Catalog) auto(ctx context.Context, localOnly bool) (*router.Plan, *openai.Error) {
	discoveries := c.discoveries(ctx)
	for i, u := range c.Upstreams {
		model := u.Kind.AutoModel
		if model == "" {
			model = firstChat(discoveries[i].Models)
		}
		if !discoveries[i].Present || model == "" || localOnly && !u.IsLocal() {
			continue
		}
		pool, err := router.NewPool(router.First, []router.Target{{Upstream: u.Route, Model: model}}, nil)
		if err == nil {
			return &router.Plan{Rule: RuleAuto, Pools: []*router.Pool{pool}}, nil
		}
	}
	return nil, exchange.NoUpstream("No upstream is available. Start one, or configure one.")
}

// firstChat is the first model that is not one for embeddings, as far as names tell.
func firstChat(models []upstream.Model) string {
	for _, m := range models {
		if !strings.Contains(strings.ToLower(m.ID), "embed") {
			return m.ID
		}
	}
	return ""
}

// silent names the upstreams whose models are not known because they never answered.
func (c *Catalog) silent(ctx context.Context) string {
	var names []string
	for i, d := range c.discoveries(ctx) {
		if d.Present && d.Err != nil && len(d.Models) == 0 {
			names = append(names, c.Upstreams[i].Name)
		}
	}
	return strings.Join(names, ", ")
}

// find returns the plan for a model that upstreams have: all that have it are one pool.
func (c *Catalog) find(ctx context.Context, name string) (*router.Plan, bool) {
	plan, ok := c.current(ctx).plans[name]
	return plan, ok
}

// each runs ask for every upstream at the same time: one that hangs must not add its wait to the others'.
func (c *Catalog) each(ask func(*upstream.Upstream)) {
	var all sync.WaitGroup
	for _, u := range c.Upstreams {
		all.Go(func() { ask(u) })
	}
	all.Wait()
}

// discoveries returns what is known of each upstream, in their order. It waits only for upstreams that were
// never asked.
func (c *Catalog) discoveries(ctx context.Context) []*upstream.Discovery {
	for _, u := range c.Upstreams {
		if !u.Discovered() {
			c.each(func(u *upstream.Upstream) { u.Discover(ctx) })
			break
		}
	}
	discoveries := make([]*upstream.Discovery, len(c.Upstreams))
	for i, u := range c.Upstreams {
		discoveries[i] = u.Discover(ctx)
	}
	return discoveries
}

func (c *Catalog) current(ctx context.Context) *discovered {
	discoveries := c.discoveries(ctx)
	if old := c.discovered.Load(); old != nil && slices.Equal(old.discoveries, discoveries) {
		return old
	}
	now := &discovered{discoveries: discoveries, plans: map[string]*router.Plan{}}
	targets := map[string][]router.Target{}
	for i, u := range c.Upstreams {
		if !discoveries[i].Present {
			continue
		}
		for _, m := range discoveries[i].Models {
			target := router.Target{Upstream: u.Route, Model: m.ID}
			targets[m.ID] = append(targets[m.ID], target)
			if short, ok := upstream.ShortName(m.ID); ok {
				targets[short] = append(targets[short], target)
			}
		}
	}
	for name, list := range targets {
		// More replicas than a pool takes: the model is left to those who configure it.
		if pool, err := router.NewPool(router.LeastBusy, list, nil); err == nil {
			now.plans[name] = &router.Plan{Rule: RuleDiscover, Pools: []*router.Pool{pool}}
		}
	}
	c.discovered.Store(now)
	return now
}
