// Package catalog knows which models there are: those in the configuration and those that upstreams have. It finds the plan for the
// name of a model, lists models for clients, and reports what can be served now.
//
// It never makes an upstream generate and never writes to a client. It stands above exchange.
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

// RuleAuto is the model that a gateway without configuration serves with any available upstream, and the rule of its plan.
const RuleAuto = "auto"

// RuleDiscover is the rule of models that are not configured but that an upstream has.
const RuleDiscover = "discover"

// A Catalog knows which models there are. It is safe for concurrent use.
type Catalog struct {
	Upstreams []*upstream.Upstream
	// Models has the plans of the configured models.
	Models *router.Table
	// Discover serves the models that the upstreams have under their own names.
	Discover bool
	// Auto serves RuleAuto with the first upstream that is present.
	Auto bool

	discovered atomic.Pointer[discovered]
}

// discovered has the plans for discovered models. They are rebuilt when a discovery has changed.
type discovered struct {
	discoveries []*upstream.Discovery // by upstream
	plans       map[string]*router.Plan
}

// Plan returns the plan for a model: by its configured name, by a pattern, or by the upstreams that have it.
func (c *Catalog) Plan(ctx context.Context, model string, localOnly bool) (*router.Plan, *openai.Error) {
	if plan, ok := c.Models.Lookup(model); ok {
		return plan, nil
	}
	if c.Auto && model == RuleAuto {
		return c.autoPlan(ctx, localOnly)
	}
	if !c.Discover {
		return nil, exchange.ModelNotFound(model)
	}
	if plan, ok := c.discoveredPlan(ctx, model); ok {
		return plan, nil
	}
	c.eachUpstream(func(_ int, u *upstream.Upstream) { u.Rediscover(ctx) }) // the model may be new
	if plan, ok := c.discoveredPlan(ctx, model); ok {
		return plan, nil
	}
	if names := c.unreachable(ctx); names != "" {
		return nil, exchange.NoUpstream("No upstream that answers has the model \"" + model + "\", and these do not answer: " + names + ".")
	}
	return nil, exchange.ModelNotFound(model)
}

// autoPlan returns the plan for RuleAuto: the first upstream that is present and may be used.
func (c *Catalog) autoPlan(ctx context.Context, localOnly bool) (*router.Plan, *openai.Error) {
	discoveries := c.discoveries(ctx)
	for i, u := range c.Upstreams {
		model := u.Kind.AutoModel
		if model == "" {
			model = firstChatModel(discoveries[i].Models)
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

// firstChatModel returns the first model that, judging by its name, is not for embeddings.
func firstChatModel(models []upstream.Model) string {
	for _, m := range models {
		if !strings.Contains(strings.ToLower(m.ID), "embed") {
			return m.ID
		}
	}
	return ""
}

// unreachable returns the names of the upstreams whose models are unknown because they have never answered.
func (c *Catalog) unreachable(ctx context.Context) string {
	var names []string
	for i, d := range c.discoveries(ctx) {
		if d.Present && d.Err != nil && len(d.Models) == 0 {
			names = append(names, c.Upstreams[i].Name)
		}
	}
	return strings.Join(names, ", ")
}

// eachUpstream calls f for all upstreams at the same time, so that the waiting times of several that hang do not add up.
func (c *Catalog) eachUpstream(f func(i int, u *upstream.Upstream)) {
	var all sync.WaitGroup
	for i, u := range c.Upstreams {
		all.Go(func() { f(i, u) })
	}
	all.Wait()
}

// discoveries returns the latest discovery of each upstream. It waits only for upstreams that have none yet.
func (c *Catalog) discoveries(ctx context.Context) []*upstream.Discovery {
	for _, u := range c.Upstreams {
		if !u.Discovered() {
			c.eachUpstream(func(_ int, u *upstream.Upstream) { u.Discover(ctx) })
			break
		}
	}
	discoveries := make([]*upstream.Discovery, len(c.Upstreams))
	for i, u := range c.Upstreams {
		discoveries[i] = u.Discover(ctx)
	}
	return discoveries
}

// discoveredPlan returns the plan for a model that upstreams have. All of these upstreams form one pool.
func (c *Catalog) discoveredPlan(ctx context.Context, model string) (*router.Plan, bool) {
	discoveries := c.discoveries(ctx)
	current := c.discovered.Load()
	if current == nil || !slices.Equal(current.discoveries, discoveries) {
		current = &discovered{discoveries: discoveries, plans: c.discoveredPlans(discoveries)}
		c.discovered.Store(current)
	}
	plan, ok := current.plans[model]
	return plan, ok
}

func (c *Catalog) discoveredPlans(discoveries []*upstream.Discovery) map[string]*router.Plan {
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
	plans := map[string]*router.Plan{}
	for name, list := range targets {
		// A pool fails if it has too many replicas. Such a model must be configured.
		if pool, err := router.NewPool(router.LeastBusy, list, nil); err == nil {
			plans[name] = &router.Plan{Rule: RuleDiscover, Pools: []*router.Pool{pool}}
		}
	}
	return plans
}
