package gateway

import (
	"context"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// RuleAuto is the rule, and the name, that a gateway nobody configured serves with whatever is there.
const RuleAuto = "auto"

// route decides where the request goes: its model's plan, and in it what its rules say.
func (c *call) route() (*router.Plan, *wire.Error) {
	if c.g.LocalOnly != nil && c.g.LocalOnly(c.r, c.rec) {
		c.localOnly = true
	}
	plan, err := c.find()
	if err != nil {
		return nil, err
	}
	plan = c.choose(plan)
	c.localOnly = c.localOnly || plan.LocalOnly
	c.rec.LocalOnly = c.localOnly
	if c.localOnly && !plan.Any(true, anyTarget) {
		return nil, mustStay(c.rec.Model)
	}
	return plan, nil
}

func anyTarget(router.Target) bool { return true }

// find finds the plan: configured name, pattern, then what upstreams really have.
func (c *call) find() (*router.Plan, *wire.Error) {
	if plan, ok := c.g.Models.Lookup(c.rec.Model); ok {
		return plan, nil
	}
	ctx := c.r.Context()
	if c.g.Auto && c.rec.Model == RuleAuto {
		return c.g.catalog.auto(ctx, c.localOnly)
	}
	if !c.g.Discover {
		return nil, modelNotFound(c.rec.Model)
	}
	if plan, ok := c.g.catalog.find(ctx, c.rec.Model); ok {
		return plan, nil
	}
	c.g.catalog.refresh(ctx)
	if plan, ok := c.g.catalog.find(ctx, c.rec.Model); ok {
		return plan, nil
	}
	if silent := c.g.catalog.silent(ctx); silent != "" {
		return nil, noUpstream("No upstream that answers has the model \"" + c.rec.Model + "\", and these do not answer: " + silent + ".")
	}
	return nil, modelNotFound(c.rec.Model)
}

// auto takes the first upstream that is present, and may be asked.
func (c *catalog) auto(ctx context.Context, localOnly bool) (*router.Plan, *wire.Error) {
	views := c.views(ctx)
	for i, u := range c.upstreams {
		model := u.Kind.AutoModel
		if model == "" {
			model = firstChat(views[i].Models)
		}
		if !views[i].Present || model == "" || localOnly && !u.IsLocal() {
			continue
		}
		pool, err := router.NewPool(router.First, []router.Target{{Upstream: u.Route, Model: model}}, nil)
		if err == nil {
			return &router.Plan{Rule: RuleAuto, Pools: []*router.Pool{pool}}, nil
		}
	}
	return nil, noUpstream("No upstream is there to answer.")
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
func (c *catalog) silent(ctx context.Context) string {
	var names []string
	for i, view := range c.views(ctx) {
		if view.Present && view.Err != nil && len(view.Models) == 0 {
			names = append(names, c.upstreams[i].Name)
		}
	}
	return strings.Join(names, ", ")
}
