package delivery

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// fits returns a function that reports whether a target can take the request. It returns nil if every target can, as far as is
// known. It also returns nil if no target can: estimates may be wrong, and the upstream's own error says more than ours.
func (d *Delivery) fits(x *exchange.Exchange, planned *exchange.PlannedRequest) func(router.Target) bool {
	if planned.StoredAt != "" {
		return func(t router.Target) bool { return t.Upstream.Name == planned.StoredAt }
	}
	request, model := planned.Body.JSON(), x.Record.Model
	limited := func(t router.Target) bool {
		return d.upstreams[t.Upstream].Capabilities(t.ModelFor(model)) != router.Capabilities{}
	}
	if request == nil || !x.Endpoint.Texts || !planned.Plan.Any(planned.LocalOnly, limited) {
		return nil
	}
	fits := func(t router.Target) bool { return d.Fits(request, model, t) }
	if !planned.Plan.Any(planned.LocalOnly, fits) {
		return nil
	}
	return fits
}

// Fits reports whether a target can take a request for a model, as far as is known.
func (d *Delivery) Fits(request *openai.Request, model string, t router.Target) bool {
	u, model, needs := d.upstreams[t.Upstream], t.ModelFor(model), needsOf(request.Signals())
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

// learnContextWindow remembers the context window that an error message contained.
func (a *attempt) learnContextWindow(f upstream.Finding) {
	if f.Verdict == router.Unsupported && f.ContextWindow > 0 {
		a.u.LearnContextWindow(a.model, f.ContextWindow)
	}
}

// compareUsage compares the estimated number of tokens of the prompt with what the upstream counted. It detects a prompt that the
// upstream silently cut, and otherwise makes the next estimate better.
func (a *attempt) compareUsage(m relay.Meter) {
	if !m.HasUsage || a.template.JSON == nil || !a.x.Endpoint.Texts {
		return
	}
	s, read := a.template.JSON.SignalsRead()
	if !read {
		return
	}
	counted := int(m.Usage.Input)
	switch {
	case a.u.Truncated(a.model, a.u.CorrectEstimate(a.model, s.LargestPrompt), counted):
		a.rec.Warning = "truncated"
	case s.Images+s.Audio+s.Files == 0 && s.LargestPrompt == s.PromptTokens:
		a.u.LearnTokens(a.model, s.PromptTokens, counted)
	}
}
