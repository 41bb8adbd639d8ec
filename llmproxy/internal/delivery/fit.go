package delivery

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// truncated is the warning of an answer to a prompt that was cut.
const truncated = "truncated"

// fits returns what reports which targets can take the request, before any is tried; nil if all can, as far as is known. It is
// nil as well if none can: an estimate may be wrong, and the upstream's own error says more than ours.
func (d *Delivery) fits(x *exchange.Exchange, ask *exchange.Ask) func(router.Target) bool {
	head, model := ask.Body.JSON(), x.Record.Model
	limited := func(t router.Target) bool {
		return d.upstreams[t.Upstream].Capabilities(t.ModelFor(model)) != router.Capabilities{}
	}
	if head == nil || !x.Endpoint.Texts || !ask.Plan.Any(ask.LocalOnly, limited) {
		return nil
	}
	fits := func(t router.Target) bool { return d.Fits(head, model, t) }
	if !ask.Plan.Any(ask.LocalOnly, fits) {
		return nil
	}
	return fits
}

// Fits reports whether a target can take a request for a model, as far as is known.
func (d *Delivery) Fits(head *openai.Request, requested string, t router.Target) bool {
	u, model, needs := d.upstreams[t.Upstream], t.ModelFor(requested), needsOf(head.Signals())
	needs.Prompt = u.CorrectEstimate(model, needs.Prompt)
	return needs.FitIn(u.Capabilities(model))
}

func needsOf(s *openai.Signals) router.Needs {
	n := router.Needs{Prompt: s.LargestPrompt, Output: s.MaxTokens}
	if s.Tools > 0 {
		n.Features |= router.Tools
	}
	if s.Images > 0 {
		n.Features |= router.Images
	}
	if s.Audio > 0 {
		n.Features |= router.Audio
	}
	if s.JSONSchema {
		n.Features |= router.JSONSchema
	}
	return n
}

// learn keeps the limit that an error told.
func (a *attempt) learn(f upstream.Finding) {
	if f.Verdict == router.Unsupported && f.ContextWindow > 0 {
		a.u.LearnContextWindow(a.model, f.ContextWindow)
	}
}

// compare holds the estimate against what the upstream counted, where both are known: the next estimate gets better by it,
// and a prompt that was cut without a word is noticed.
func (a *attempt) compare(m relay.Meter) {
	if !m.HasUsage || a.call.JSON == nil || !a.x.Endpoint.Texts {
		return
	}
	s, read := a.call.JSON.SignalsRead()
	if !read {
		return
	}
	counted := int(m.Usage.Input)
	switch {
	case a.u.Truncated(a.model, a.u.CorrectEstimate(a.model, s.LargestPrompt), counted):
		a.rec.Warning = truncated
	case s.Images+s.Audio+s.Files == 0 && s.LargestPrompt == s.PromptTokens:
		a.u.LearnTokens(a.model, s.PromptTokens, counted)
	}
}
