package upstream

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An Override is what the configuration sets for the capabilities of one model, or of all models of an upstream. It takes precedence
// over what servers report and what was learned from errors.
type Override struct {
	ContextWindow int            // tokens; zero means no override
	Can           router.Feature // features that the model has, whatever the server reports
	Cannot        router.Feature
}

func (o Override) apply(c router.Capabilities) router.Capabilities {
	if o.ContextWindow > 0 {
		c.ContextWindow = o.ContextWindow
	}
	c.Lacks, c.Has = c.Lacks&^o.Can|o.Cannot, c.Has&^o.Cannot|o.Can
	return c
}

// anyModel stands for every model of a server that answers to all names.
const anyModel = ""

const (
	reportedFresh  = 30 * time.Second // then the next request triggers a refresh
	learnedFresh   = 10 * time.Minute // a server may be restarted with a larger context window
	maxKnownModels = 64               // of an upstream, whose capabilities are kept
	refreshTimeout = 2 * time.Second  // Ollama does not answer while it loads a model
)

// capabilities are what is known of an upstream's models: what its servers report, and what was learned from errors.
type capabilities struct {
	table      atomic.Pointer[capabilityTable]
	refreshing atomic.Bool
	version    atomic.Pointer[version] // the oldest of the replicas; nil until all are known
	versions   []version               // of the replicas; only a refresh uses them

	mu       sync.Mutex
	reported map[string]router.Capabilities
	learned  map[string]learnedWindow
	ratios   map[string]float64 // of counted to estimated tokens
}

// A capabilityTable has all that is known of each model, ready for lookups. It is immutable.
type capabilityTable struct {
	models     map[string]router.Capabilities
	others     router.Capabilities // of models that are not in models
	reportedAt time.Time
	until      time.Time // when the oldest learned entry expires; zero means never
}

// A learnedWindow is a context window that an error stated.
type learnedWindow struct {
	tokens int
	at     time.Time
}

// publishCapabilities makes a new table of all that is known. The caller holds the lock, or is New.
func (u *Upstream) publishCapabilities(reportedAt time.Time) *capabilityTable {
	c := &u.capabilities
	maps.DeleteFunc(c.learned, func(_ string, l learnedWindow) bool { return time.Since(l.at) >= learnedFresh })
	t := &capabilityTable{models: make(map[string]router.Capabilities, len(c.reported)+len(u.ModelOverrides)), reportedAt: reportedAt, others: u.Override.apply(c.reported[anyModel])}
	for model := range u.ModelOverrides {
		t.models[model] = c.reported[anyModel]
	}
	maps.Copy(t.models, c.reported)
	for model, l := range c.learned {
		known := t.models[model]
		if known.ContextWindow == 0 || l.tokens < known.ContextWindow {
			known.ContextWindow = l.tokens
			t.models[model] = known
		}
		if expires := l.at.Add(learnedFresh); t.until.IsZero() || expires.Before(t.until) {
			t.until = expires
		}
	}
	for model, known := range t.models {
		t.models[model] = u.ModelOverrides[model].apply(u.Override.apply(known))
	}
	c.table.Store(t)
	return t
}

// Capabilities returns what a model of the upstream can take, as far as is known now. It never waits: old knowledge is refreshed in
// the background, without generating.
func (u *Upstream) Capabilities(model string) router.Capabilities {
	c := &u.capabilities
	t := c.table.Load()
	if !t.until.IsZero() && time.Now().After(t.until) {
		c.mu.Lock()
		t = u.publishCapabilities(c.table.Load().reportedAt)
		c.mu.Unlock()
	}
	known, ok := t.models[model]
	if !ok {
		known = t.others
	}
	if kind := u.kind.Load(); kind != nil && kind.capabilities == nil {
		return known // servers of this kind cannot be asked
	}
	if !ok && len(t.models) < maxKnownModels && u.addModel(model) || time.Since(t.reportedAt) > reportedFresh {
		u.RefreshCapabilities()
	}
	return known
}

// Describe completes an entry of the upstream's list of models by what else is known of the model. It never makes a request.
func (u *Upstream) Describe(m Model) (Model, router.Capabilities) {
	t := u.capabilities.table.Load()
	known, ok := t.models[m.ID]
	if !ok {
		known = t.others
	}
	if known.ContextWindow > 0 {
		m.ContextWindow = known.ContextWindow
	}
	return m, known
}

// addModel includes a model in refreshes from now on. It reports false if the model is included already, or if there are too many.
func (u *Upstream) addModel(model string) bool {
	c := &u.capabilities
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.reported[model]; ok || len(c.reported) >= maxKnownModels {
		return false
	}
	c.reported[model] = c.reported[anyModel]
	u.publishCapabilities(c.table.Load().reportedAt)
	return true
}

// LearnContextWindow remembers, for a while, the context window in tokens that an error of the upstream stated.
func (u *Upstream) LearnContextWindow(model string, tokens int) {
	c := &u.capabilities
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.learned[model]; !ok && len(c.learned) >= maxKnownModels {
		return
	}
	c.learned[model] = learnedWindow{tokens, time.Now()}
	u.publishCapabilities(c.table.Load().reportedAt)
}

// RefreshCapabilities asks the servers in the background what their models can take, unless a refresh is running.
func (u *Upstream) RefreshCapabilities() {
	if !u.capabilities.refreshing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer u.capabilities.refreshing.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), refreshTimeout)
		defer cancel()
		if u.kind.Load() == nil {
			u.Discover(ctx) // detects the kind
		}
		u.refreshCapabilities(ctx)
		u.learnVersions(ctx)
	}()
}

// AskCapabilities asks the servers what a model can take, and waits for them for a moment.
func (u *Upstream) AskCapabilities(ctx context.Context, model string) {
	if u.ActualKind().capabilities == nil {
		return
	}
	u.addModel(model)
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	u.refreshCapabilities(ctx)
}

// refreshCapabilities asks every replica. For models about which no replica answers, it keeps what was known.
func (u *Upstream) refreshCapabilities(ctx context.Context) {
	c := &u.capabilities
	var names []string
	c.mu.Lock()
	for model := range c.reported {
		if model != anyModel {
			names = append(names, model)
		}
	}
	c.mu.Unlock()
	found := map[string]router.Capabilities{}
	if fetch := u.ActualKind().capabilities; fetch != nil {
		for _, base := range u.Bases {
			for model, here := range fetch(&probe{ctx: ctx, u: u, base: base}, names) {
				found[model] = least(found[model], here)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for model, known := range found {
		if _, ok := c.reported[model]; ok || len(c.reported) < maxKnownModels {
			c.reported[model] = known
		}
	}
	u.publishCapabilities(time.Now())
}

// least returns what both of two replicas can take: the smaller context window, and only features that both have.
func least(a, b router.Capabilities) router.Capabilities {
	if a.ContextWindow != 0 && (b.ContextWindow == 0 || a.ContextWindow < b.ContextWindow) {
		b.ContextWindow = a.ContextWindow
	}
	b.Lacks |= a.Lacks
	b.Has = (a.Has | b.Has) &^ b.Lacks
	return b
}

// How many tokens a model makes of a text depends on its tokenizer and the language. The moving average of each model's ratio
// of counted to estimated tokens corrects further estimates.
const (
	ratioWeight   = 0.1 // of the newest request
	minRatio      = 0.5
	maxRatio      = 3
	ratioEstimate = 200 // tokens; shorter prompts say little about the ratio
)

// CorrectEstimate corrects an estimate of a prompt's tokens to what the model is likely to count.
func (u *Upstream) CorrectEstimate(model string, estimate int) int {
	c := &u.capabilities
	c.mu.Lock()
	ratio, ok := c.ratios[model]
	c.mu.Unlock()
	if !ok {
		return estimate
	}
	return int(float64(estimate) * ratio)
}

// LearnTokens records how many tokens the model counted for a prompt of text only, and how many had been estimated.
func (u *Upstream) LearnTokens(model string, estimate, counted int) {
	if estimate < ratioEstimate || counted <= 0 {
		return
	}
	ratio := min(max(float64(counted)/float64(estimate), minRatio), maxRatio)
	c := &u.capabilities
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.ratios[model]
	switch {
	case ok:
		c.ratios[model] = old + ratioWeight*(ratio-old)
	case len(c.ratios) < maxKnownModels:
		c.ratios[model] = ratio
	}
}

// Truncated reports whether the server silently dropped a part of a prompt, because it counted far fewer tokens than estimated.
func (u *Upstream) Truncated(model string, estimate, counted int) bool {
	window := u.Capabilities(model).ContextWindow
	return u.ActualKind().truncates && counted > 0 && float64(counted) < 0.6*float64(estimate) && (window == 0 || estimate > window)
}

// learnVersions asks every replica for its version, and remembers the oldest one as soon as all have told theirs. A replica that does not
// answer keeps the version that it had.
func (u *Upstream) learnVersions(ctx context.Context) {
	k, c := u.ActualKind(), &u.capabilities
	if k.version == nil || len(u.Bases) == 0 {
		return
	}
	if c.versions == nil {
		c.versions = make([]version, len(u.Bases))
	}
	for i, base := range u.Bases {
		if v := k.version(&probe{ctx: ctx, u: u, base: base, timeout: probeTimeout}); v != (version{}) {
			c.versions[i] = v
		}
	}
	oldest := slices.MinFunc(c.versions, version.compare)
	if oldest != (version{}) {
		c.version.Store(&oldest)
	}
}

// versionAt returns a function that reads the version from the JSON at a path.
func versionAt(path string) func(*probe) version {
	return func(p *probe) version {
		answer, _ := p.object(path) // nil without an answer
		return parseVersion(text(answer["version"]))
	}
}
