package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A modelEntry is a model as OpenAI's list has it.
type modelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// listModels answers GET /v1/models and /v1/models/{id}: what the configuration names, then what upstreams have of what
// could be asked for.
func (c *call) listModels() {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header()["Allow"] = []string{"GET, HEAD"}
		c.fail(wrongMethod(c.r.Method, c.r.URL.Path, http.MethodGet))
		return
	}
	entries := slices.DeleteFunc(c.g.models(c.r, c.localOnly), func(e modelEntry) bool { return !c.key.May(e.ID) })
	if c.task.modelID == "" {
		c.answerJSON(map[string]any{"object": "list", "data": entries})
		return
	}
	c.rec.Model = c.task.modelID
	for _, e := range entries {
		if e.ID == c.task.modelID {
			c.answerJSON(e)
			return
		}
	}
	c.fail(modelNotFound(c.task.modelID))
}

// models lists what can be asked for, or, by a key whose requests stay local, what such an upstream may answer.
func (g *Gateway) models(r *http.Request, localOnly bool) []modelEntry {
	views := g.catalog.views(r.Context())
	entries, seen := []modelEntry{}, map[string]bool{}
	add := func(id, owner string, created int64) {
		if !seen[id] {
			seen[id] = true
			entries = append(entries, modelEntry{ID: id, Object: "model", Created: created, OwnedBy: owner})
		}
	}
	for _, name := range g.Models.Names() {
		if plan, _ := g.Models.Lookup(name); !localOnly || plan.Any(true, anyTarget) {
			add(name, plan.First().Name, 0)
		}
	}
	if g.Auto {
		add(RuleAuto, "llm_proxy", 0)
	}
	for i, u := range g.Config.Upstreams {
		if !views[i].Present || localOnly && !u.IsLocal() {
			continue
		}
		for _, m := range views[i].Models {
			if g.Discover || g.passes(m.ID, u.Route) {
				add(m.ID, u.Name, m.Created)
			}
		}
	}
	return entries
}

// passes tells whether a pattern lets a client reach a model of the upstream by the model's own name.
func (g *Gateway) passes(model string, u *router.Upstream) bool {
	plan, ok := g.Models.Lookup(model)
	if !ok || !router.IsPattern(plan.Rule) {
		return false
	}
	there := false
	plan.Targets(func(t router.Target) { there = there || t.Upstream == u && t.ModelFor(model) == model })
	return there
}

func (c *call) answerJSON(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		c.fail(upstreamError("The list of models could not be written."))
		return
	}
	c.rec.Status, c.committed = http.StatusOK, true
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(http.StatusOK)
	n, _ := c.w.Write(body) // the client may be gone
	c.rec.Bytes += int64(n)
}
