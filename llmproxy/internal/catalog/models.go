package catalog

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A modelEntry is a model in OpenAI's list.
type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

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
	return nil, exchange.ModelNotFound(id)
}

func encode(v any) ([]byte, *openai.Error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, &openai.Error{Status: http.StatusInternalServerError, Type: exchange.ServerError, Message: "The list of models could not be written as JSON."}
	}
	return body, nil
}

func (c *Catalog) entries(ctx context.Context, localOnly bool, may func(string) bool) []modelEntry {
	discoveries := c.discoveries(ctx)
	entries, seen := []modelEntry{}, map[string]bool{}
	add := func(id, owner string, created int64) {
		if !seen[id] && may(id) {
			entries = append(entries, modelEntry{ID: id, Object: "model", Created: created, OwnedBy: owner})
		}
		seen[id] = true
	}
	for _, name := range c.Models.Names() {
		if plan, _ := c.Models.Lookup(name); !localOnly || plan.HasLocal() {
			add(name, plan.Default().Name, 0)
		}
	}
	if c.Auto {
		add(RuleAuto, "llm_proxy", 0)
	}
	for i, u := range c.Upstreams {
		if !discoveries[i].Present || localOnly && !u.IsLocal() {
			continue
		}
		for _, m := range discoveries[i].Models {
			if c.Discover || c.matchesPattern(m.ID, u.Route) {
				add(m.ID, u.Name, m.Created)
			}
		}
	}
	return entries
}

// matchesPattern reports whether a configured pattern makes a model of the upstream available under its own name.
func (c *Catalog) matchesPattern(model string, u *router.Upstream) bool {
	plan, ok := c.Models.Lookup(model)
	if !ok || !router.IsPattern(plan.Rule) {
		return false
	}
	found := false
	plan.Targets(func(t router.Target) { found = found || t.Upstream == u && t.ModelFor(model) == model })
	return found
}
