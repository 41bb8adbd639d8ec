package openai

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// What may be asked once and answered many times. These lists can only keep an answer from being shared: what they do not
// know of a request is part of its key.

// notInKey are members that do not change what is answered, only how, to whom or for which price.
var notInKey = []string{
	"stream", "stream_options", "user", "safety_identifier", "metadata", "service_tier",
	"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
}

// ChangesNothing reports whether a member, by its key as it stands, does not change what is answered. Another spelling of
// one of these keys is taken for something else.
func ChangesNothing(key []byte) bool {
	return slices.Contains(notInKey, string(key))
}

// looksElsewhere are members with which an answer depends on more than its request: on what was stored before, on the web,
// on what the service keeps under a name.
var looksElsewhere = []string{
	"previous_response_id", "conversation", "web_search_options", "web_search", "enable_search", "search_parameters", "data_sources",
	"plugins", "mcp_servers", "container", "audio",
}

// NotCacheable says why the answer to a request must not be given to another one like it; empty if it may.
func (h *Head) NotCacheable(e *Endpoint) (why string) {
	if !e.Cacheable {
		return "its endpoint"
	}
	stored := e.Framing == Typed // the Responses API stores unless told not to
	for _, m := range h.Members {
		key, value := meant(m.Key.Of(h.Body)), m.Value.Of(h.Body)
		switch {
		case string(key) == "store":
			stored = string(value) != "false" && !jsonspan.IsNull(value) || jsonspan.IsNull(value) && e.Framing == Typed
		case jsonspan.IsNull(value) || string(value) == "false":
		case slices.Contains(looksElsewhere, string(key)), string(key) == "background":
			why = string(key)
		case string(key) == "prompt" && value[0] == '{':
			why = "prompt" // a template that the service keeps
		case string(key) == "modalities" && hasString(value, "audio"):
			why = "modalities"
		case string(key) == "tools" && hosted(value):
			why = "tools"
		}
	}
	if stored {
		return "store"
	}
	return why
}

// meant is a key as a server may read it: without escapes, in lower case.
func meant(key []byte) []byte {
	if jsonspan.Ambiguous(key) {
		return bytes.ToLower(jsonspan.Unescape(key))
	}
	return key
}

func hasString(array []byte, text string) (found bool) {
	_ = jsonspan.EachElement(array, func(value []byte) bool { // what is no array holds none
		s, _ := jsonspan.String(value)
		found = s == text
		return !found
	})
	return found
}

// hosted reports whether a tool runs at the service: it may answer differently every time.
func hosted(tools []byte) (found bool) {
	err := jsonspan.EachElement(tools, func(tool []byte) bool {
		err := jsonspan.EachMember(tool, func(key, value []byte) bool { // Anthropic's own tools have no type
			if string(meant(key)) == "type" {
				kind, _ := jsonspan.String(value)
				found = kind != "function" && kind != "custom"
			}
			return !found
		})
		found = found || err != nil
		return !found
	})
	return found || err != nil
}

// Deterministic reports whether the request asks for the one likeliest answer: temperature 0 and a single choice. What is not
// sampled always does.
func (h *Head) Deterministic(e *Endpoint) bool {
	if e.Framing == Chunks && e.AsksUsage || e.Framing == Typed {
		temperature, ok := h.Get("temperature")
		return ok && h.N == 1 && zero(temperature)
	}
	return true
}

// zero reports whether a value is the number zero.
func zero(value []byte) bool {
	for _, c := range value {
		if c == 'e' || c == 'E' {
			break
		}
		if c != '0' && c != '.' && c != '-' {
			return false
		}
	}
	return len(value) > 0
}
