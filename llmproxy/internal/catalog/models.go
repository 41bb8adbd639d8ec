package catalog

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// ListModels returns the answer to GET /v1/models or, if id is not empty, to GET /v1/models/{id}. It lists the configured models and then
// the discovered ones that a client could use. May reports whether the caller may use a model.
func (c *Catalog) ListModels(ctx context.Context, id string, localOnly bool, may func(model string) bool) ([]byte, *openai.Error) {
	entries := c.entries(ctx, localOnly, may)
	if id == "" {
		return encode(map[string]any{"object": "list", "data": entries})
	}
	for _, e := range entries {
		if e.ID == id {
			return encode(e)
		}
	}
	for _, e := range entries {
		if short, ok := upstream.ShortName(e.ID); ok && short == id && may(id) {
			e.ID = id
			return encode(e)
		}
	}
	return nil, exchange.ModelNotFound(id)
}

func encode(v any) ([]byte, *openai.Error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, &openai.Error{Status: http.StatusInternalServerError, Type: exchange.ServerError, Message: "The list of models could not be written as JSON."}
	}
	return body, nil
}

// entries returns the entries of the list, each name once.
func (c *Catalog) entries(ctx context.Context, localOnly bool, may func(string) bool) []*modelEntry {
	discoveries := c.discoveries(ctx)
	entries, seen := []*modelEntry{}, map[string]bool{}
	add := func(id string, describe func() *modelEntry) {
		if !seen[id] && may(id) {
			e := describe()
			e.ID = id
			entries = append(entries, e)
		}
		seen[id] = true
	}
	for _, name := range c.Models.Names() {
		if plan, _ := c.Models.Lookup(name); !localOnly || plan.HasLocal() {
			add(name, func() *modelEntry { return c.describePlan(plan, name, localOnly, discoveries) })
		}
	}
	if c.Auto {
		add(RuleAuto, func() *modelEntry {
			e := &modelEntry{}
			if plan, err := c.autoPlan(ctx, localOnly); err == nil {
				e = c.describePlan(plan, RuleAuto, localOnly, discoveries)
			}
			e.Owner = "llm_proxy"
			return e
		})
	}
	discovered := map[string]*modelEntry{}
	for i, u := range c.Upstreams {
		if !discoveries[i].Present || localOnly && !u.IsLocal() {
			continue
		}
		for _, m := range discoveries[i].Models {
			for _, name := range c.namesOf(m.ID, u.Route) {
				if e := discovered[name]; e != nil { // several upstreams have it
					e.merge(describe(u, m))
					continue
				}
				add(name, func() *modelEntry {
					e := describe(u, m)
					discovered[name] = e
					return e
				})
			}
		}
	}
	return entries
}

// describePlan describes a name by the targets that usually answer for it: those of the first pool. Whatever differs between them is
// described so that it is true of each.
func (c *Catalog) describePlan(plan *router.Plan, name string, localOnly bool, discoveries []*upstream.Discovery) *modelEntry {
	var e *modelEntry
	for _, t := range plan.FirstPool(localOnly) {
		i := slices.IndexFunc(c.Upstreams, func(u *upstream.Upstream) bool { return u.Route == t.Upstream })
		if i < 0 {
			continue
		}
		u := c.Upstreams[i]
		m := discoveries[i].Model(t.ModelFor(name))
		u.Capabilities(m.ID) // is refreshed in the background if it is old
		if one := describe(u, m); e == nil {
			e = one
		} else {
			e.merge(one)
		}
	}
	if e == nil {
		return &modelEntry{Model: upstream.Model{Owner: plan.Default().Name}}
	}
	// The target's own names would be mistaken for the model's.
	e.Details = slices.DeleteFunc(slices.Clone(e.Details), func(d upstream.ModelDetail) bool {
		return d.Name == "name" || d.Name == "display_name" || d.Name == "aliases"
	})
	return e
}

// namesOf returns the names under which clients can ask for a model of an upstream, besides those in the configuration: its own with
// discovery, and those by which a configured pattern leads there.
func (c *Catalog) namesOf(model string, u *router.Upstream) (names []string) {
	if c.Discover {
		names = append(names, model)
	}
	c.Models.Each(func(pattern string, plan *router.Plan) {
		if !router.IsPattern(pattern) {
			return
		}
		plan.Targets(func(t router.Target) {
			name, ok := t.RequestedAs(model)
			if !ok || t.Upstream != u || slices.Contains(names, name) {
				return
			}
			if found, _ := c.Models.Lookup(name); found == plan {
				names = append(names, name)
			}
		})
	})
	return names
}
