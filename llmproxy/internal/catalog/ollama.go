package catalog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

const latest = ":latest"

// otherTag returns the other name of a model whose tag is "latest", with or without it. It returns false if the model has another tag.
func otherTag(model string) (string, bool) {
	if short, ok := strings.CutSuffix(model, latest); ok {
		return short, true
	}
	return model + latest, strings.LastIndexByte(model, ':') <= strings.LastIndexByte(model, '/') // a colon before it is that of a port
}

// TaggedName returns the name that a model has here if a client of Ollama's API, to which m and m:latest are one, asks for it.
func (c *Catalog) TaggedName(ctx context.Context, model string, may func(string) bool) string {
	other, ok := otherTag(model)
	if !ok {
		return model
	}
	if may(model) != may(other) {
		if may(other) {
			return other
		}
		return model
	}
	serves := func(name string) bool {
		if plan, ok := c.Models.Lookup(name); ok {
			return !router.IsPattern(plan.Rule)
		}
		if c.Auto && name == RuleAuto {
			return true
		}
		_, ok := c.discoveredPlan(ctx, name)
		return ok && c.Discover
	}
	if !serves(model) && serves(other) {
		return other
	}
	return model
}

// An ollamaDetails describes a model's files. It is all that Ollama says of a model that runs elsewhere: nothing.
type ollamaDetails struct {
	Parent       string   `json:"parent_model"`
	Format       string   `json:"format"`
	Family       string   `json:"family"`
	Families     []string `json:"families"`
	Parameters   string   `json:"parameter_size"`
	Quantization string   `json:"quantization_level"`
}

// An ollamaModel is a model as Ollama's API lists it. Clients refuse the whole list if an entry lacks a member.
type ollamaModel struct {
	Name         string        `json:"name"`
	Model        string        `json:"model"`
	ModifiedAt   time.Time     `json:"modified_at"`
	Size         int64         `json:"size"`
	Digest       string        `json:"digest"`
	Details      ollamaDetails `json:"details"`
	Capabilities []string      `json:"capabilities"`
}

// ollama describes a model as Ollama's API does. A model that is no file has the digest of its name, the size 0, and is from 1970.
func (e *modelEntry) ollama() ollamaModel {
	m := ollamaModel{Name: e.ID, Model: e.ID, ModifiedAt: time.Unix(e.Created, 0).UTC(), Size: e.Size, Digest: e.Digest, Capabilities: e.ollamaCapabilities()}
	if m.Digest == "" {
		digest := sha256.Sum256([]byte(e.ID))
		m.Digest = hex.EncodeToString(digest[:])
	}
	_ = json.Unmarshal(e.detail("details"), &m.Details) // other servers' members of this name may be anything
	m.Details.Parent = cmp.Or(m.Details.Parent, e.Parent)
	if m.Details.Families == nil {
		m.Details.Families = []string{}
	}
	return m
}

// detail returns what the upstream's list says of a model, or nil.
func (e *modelEntry) detail(name string) json.RawMessage {
	for _, d := range e.Details {
		if d.Name == name {
			return d.Value
		}
	}
	return nil
}

// ollamaCapabilities returns the capabilities of a model in Ollama's words. As for requests, a model that is not known to lack tools has
// them; images must be known.
func (e *modelEntry) ollamaCapabilities() []string {
	var stated []string
	_ = json.Unmarshal(e.detail("capabilities"), &stated) // an object, as Mistral's, says the same in has
	of := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return slices.Contains(stated, word) })
	}
	if of("embedding", "embeddings") && !of("completion") || len(stated) == 0 && strings.Contains(strings.ToLower(e.ID), "embed") {
		return []string{"embedding"}
	}
	list := []string{"completion"}
	fromOllama := of("completion") && e.Digest != ""
	for _, c := range []struct {
		word string
		has  bool
	}{
		{"tools", e.has&router.Tools != 0 || !fromOllama || of("tools")},
		{"insert", of("insert")},
		{"vision", e.has&router.Images != 0 || of("vision")},
		{"audio", e.has&router.Audio != 0 || of("audio")},
		{"thinking", e.has&router.Thinking != 0 || of("thinking", "reasoning")},
		{"embedding", of("embedding", "embeddings")},
	} {
		lacks := c.word == "tools" && e.lacks&router.Tools != 0 || c.word == "vision" && e.lacks&router.Images != 0 || c.word == "audio" && e.lacks&router.Audio != 0
		if c.has && !lacks {
			list = append(list, c.word)
		}
	}
	return list
}

// ollamaEntries returns the entries of the models that a client of Ollama's API may use.
func (c *Catalog) ollamaEntries(ctx context.Context, localOnly bool, may func(string) bool) []*modelEntry {
	return c.entries(ctx, localOnly, func(model string) bool {
		other, ok := otherTag(model)
		return may(model) || ok && may(other)
	})
}

// ListTags returns the answer to GET /api/tags of Ollama's API: the models of ListModels.
func (c *Catalog) ListTags(ctx context.Context, localOnly bool, may func(model string) bool) ([]byte, *openai.Error) {
	models := []ollamaModel{}
	for _, e := range c.ollamaEntries(ctx, localOnly, may) {
		models = append(models, e.ollama())
	}
	return encode(map[string]any{"models": models})
}

// ListLoaded returns the answer to GET /api/ps of Ollama's API: the models of ListModels that an Ollama server had loaded when it was last
// asked.
func (c *Catalog) ListLoaded(ctx context.Context, localOnly bool, may func(model string) bool) ([]byte, *openai.Error) {
	models := []map[string]json.RawMessage{}
	loaded := make([][]upstream.LoadedModel, len(c.Upstreams))
	c.eachUpstream(func(i int, u *upstream.Upstream) { loaded[i] = u.Loaded(ctx) })
	for _, e := range c.ollamaEntries(ctx, localOnly, may) {
		for _, t := range c.targets(ctx, e.ID, localOnly) {
			entry := loadedEntry(loaded[c.index(t.Upstream)], t.ModelFor(e.ID))
			if entry == nil {
				continue
			}
			entry["name"], entry["model"] = encoded(e.ID), encoded(e.ID)
			models = append(models, entry)
			break
		}
	}
	return encode(map[string]any{"models": models})
}

// A Resident is a model that a caller may use, where it is served, and whether it is in memory there.
type Resident struct {
	ID      string
	Targets []router.Target
	// Resident is nil if no server says whether it has the model in memory.
	Resident *bool
}

// Residents returns the models that a caller may use.
func (c *Catalog) Residents(ctx context.Context, localOnly bool, may func(model string) bool) (list []Resident) {
	loaded := make([][]upstream.LoadedModel, len(c.Upstreams))
	c.eachUpstream(func(i int, u *upstream.Upstream) { loaded[i] = u.Loaded(ctx) })
	for _, e := range c.entries(ctx, localOnly, may) {
		r := Resident{ID: e.ID, Targets: c.targets(ctx, e.ID, localOnly)}
		for _, t := range r.Targets {
			i, model := c.index(t.Upstream), t.ModelFor(e.ID)
			is, known := c.Upstreams[i].HasInMemory(model)
			if c.Upstreams[i].ListsLoaded() {
				is, known = loadedEntry(loaded[i], model) != nil, true
			}
			if known {
				is = is || r.Resident != nil && *r.Resident
				r.Resident = &is
			}
		}
		if len(r.Targets) > 0 {
			list = append(list, r)
		}
	}
	return list
}

// loadedEntry returns a copy of the entry of a model in a list of loaded models, or nil.
func loadedEntry(loaded []upstream.LoadedModel, model string) (entry map[string]json.RawMessage) {
	i := slices.IndexFunc(loaded, func(m upstream.LoadedModel) bool { return m.Is(model) })
	if i < 0 || json.Unmarshal(loaded[i].Entry, &entry) != nil {
		return nil
	}
	return entry
}

// targets returns the targets that usually answer for a model.
func (c *Catalog) targets(ctx context.Context, model string, localOnly bool) []router.Target {
	plan, ok := c.Models.Lookup(model)
	if !ok {
		if plan, ok = c.discoveredPlan(ctx, model); !ok {
			return nil
		}
	}
	return slices.DeleteFunc(plan.FirstPool(localOnly), func(t router.Target) bool { return c.index(t.Upstream) < 0 })
}

// index returns the index of a target's upstream.
func (c *Catalog) index(route *router.Upstream) int {
	return slices.IndexFunc(c.Upstreams, func(u *upstream.Upstream) bool { return u.Route == route })
}

// ollamaEntry returns the entry of a model, which may be named with or without ":latest", or match a pattern. It returns nil for an unknown model.
func (c *Catalog) ollamaEntry(ctx context.Context, model string, localOnly bool, may func(string) bool) *modelEntry {
	other, hasOther := otherTag(model)
	var found *modelEntry
	for _, e := range c.ollamaEntries(ctx, localOnly, may) {
		switch {
		case e.ID == model:
			return e
		case hasOther && e.ID == other:
			found = e
		}
	}
	if found != nil || !may(model) {
		return found
	}
	plan, ok := c.Models.Lookup(model)
	if !ok || localOnly && !plan.HasLocal() {
		return nil
	}
	e := c.describePlan(plan, model, localOnly, c.discoveries(ctx))
	e.ID = model
	return e
}

// assumedContext is the context window in tokens of a model whose own is unknown. VS Code assumes the same.
const assumedContext = 32768

// unknownFamily is the architecture of a model whose own is unknown. Clients find the context window under its name.
const unknownFamily = "unknown"

// ShowModel returns the answer to POST /api/show of Ollama's API.
func (c *Catalog) ShowModel(ctx context.Context, model string, localOnly bool, may func(model string) bool) ([]byte, *openai.Error) {
	e := c.ollamaEntry(ctx, model, localOnly, may)
	if e == nil {
		return nil, exchange.ModelNotFound(model)
	}
	if e.ContextWindow == 0 { // clients ask once
		for _, t := range c.targets(ctx, e.ID, localOnly) {
			c.Upstreams[c.index(t.Upstream)].AskCapabilities(ctx, t.ModelFor(e.ID))
		}
		if asked := c.ollamaEntry(ctx, model, localOnly, may); asked != nil {
			e = asked
		}
	}
	m := e.ollama()
	family := cmp.Or(m.Details.Family, unknownFamily)
	return encode(map[string]any{
		"modelfile": "", "parameters": "", "template": "", "license": "",
		"details": m.Details, "capabilities": m.Capabilities, "modified_at": m.ModifiedAt,
		"model_info": map[string]any{
			"general.architecture": family, "general.basename": e.ID,
			family + ".context_length": cmp.Or(e.ContextWindow, assumedContext),
			// The ollama command panics without these two.
			"general.parameter_count": parameterCount(m.Details.Parameters), family + ".embedding_length": 0,
		},
	})
}

// parameterCount returns the number of parameters that a size such as 8.0B or 270M stands for, or 0.
func parameterCount(size string) int64 {
	for unit, factor := range map[string]float64{"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12} {
		digits, ok := strings.CutSuffix(size, unit)
		if n, err := strconv.ParseFloat(digits, 64); ok && err == nil && n > 0 && n < 1e6 {
			return int64(n * factor)
		}
	}
	return 0
}
