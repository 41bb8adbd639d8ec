package openai

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// selectors are members beside "model" by which services and gateways let a request choose its model, or who answers: OpenRouter
// (models, route, provider, preset, plugins), LiteLLM (the fallbacks, deployment_id, api_base, base_url, extra_body) and Vercel's AI
// gateway (providerOptions).
var selectors = [...]string{
	"models", "route", "provider", "preset", "plugins", "fallbacks", "fallback_models", "context_window_fallback_dict",
	"context_window_fallbacks", "content_policy_fallbacks", "deployment_id", "model_group", "api_base", "base_url", "extra_body",
	"providerOptions",
}

// Selector returns the first member beside "model" by which a service may choose another model, or "". Names are compared as the
// most lenient server does. Values that choose nothing do not count: null, and empty ones.
func (r *Request) Selector() string {
	if r == nil {
		return ""
	}
	for _, m := range r.Members {
		key := m.Key.Of(r.Body)
		for _, name := range selectors {
			if jsonspan.EqualFold(key, name) && !choosesNothing(m.Value.Of(r.Body)) {
				return name
			}
		}
	}
	return ""
}

func choosesNothing(value []byte) bool {
	if jsonspan.IsNull(value) || string(value) == `""` {
		return true
	}
	if len(value) < 2 || value[0] != '[' && value[0] != '{' {
		return false
	}
	return len(bytes.TrimSpace(value[1:len(value)-1])) == 0
}
