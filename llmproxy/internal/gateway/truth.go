package gateway

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// truncated is the warning of an answer to a prompt that was cut.
const truncated = "truncated"

// misfit judges the targets that cannot take the request, before any is tried; nil where all can, as far as is known. It is
// nil as well where none can: an estimate may be wrong, and the upstream's own words say more than ours.
func (c *call) misfit(plan *router.Plan) func(router.Target) bool {
	if c.up.Head == nil || !c.task.endpoint.Texts || !plan.Any(c.localOnly, c.limited) {
		return nil
	}
	if !plan.Any(c.localOnly, c.fits) {
		return nil
	}
	return func(t router.Target) bool { return !c.fits(t) }
}

// fits tells whether a target can take the request, as far as is known.
func (c *call) fits(t router.Target) bool {
	u, model, needs := c.g.upstreams[t.Upstream], t.ModelFor(c.rec.Model), needsOf(c.head.Signals())
	needs.Prompt = u.Correct(model, needs.Prompt)
	return needs.Within(u.Limits(model))
}

func (c *call) limited(t router.Target) bool {
	return c.g.upstreams[t.Upstream].Limits(t.ModelFor(c.rec.Model)) != router.Limits{}
}

func needsOf(s *wire.Signals) router.Needs {
	n := router.Needs{Prompt: s.LargestPrompt, Output: s.MaxTokens}
	if s.Tools > 0 {
		n.Abilities |= router.Tools
	}
	if s.Images > 0 {
		n.Abilities |= router.Images
	}
	if s.Audio > 0 {
		n.Abilities |= router.Audio
	}
	if s.JSONSchema {
		n.Abilities |= router.JSONSchema
	}
	return n
}

// learn keeps the limit that an error told.
func (a *attempt) learn(f upstream.Finding) {
	if f.Verdict == router.FitsElsewhere && f.Limit > 0 {
		a.u.Learn(a.model, f.Limit)
	}
}

// compare holds the estimate against what the upstream counted, where both are known: the next estimate gets better by it, and
// a prompt that was cut without a word is noticed.
func (a *attempt) compare(m relay.Meter) {
	s, read := a.c.head.SignalsRead()
	if !m.HasUsage || !read || !a.c.task.endpoint.Texts {
		return
	}
	counted := int(m.Usage.Input)
	switch {
	case a.u.Truncated(a.model, a.u.Correct(a.model, s.LargestPrompt), counted):
		a.c.rec.Warning = truncated
	case s.Images+s.Audio+s.Files == 0 && s.LargestPrompt == s.PromptTokens:
		a.u.Counted(a.model, s.PromptTokens, counted)
	}
}
