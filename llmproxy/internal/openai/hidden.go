package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// usualMembers are the members of a chunk that only has a usage. A client that did not ask for the usage misses nothing without them.
var usualMembers = map[string]bool{
	"id": true, "object": true, "created": true, "model": true, "choices": true, "usage": true, "system_fingerprint": true, "service_tier": true,
	"obfuscation": true, "error": true, "provider": true,
}

// WithoutUsage returns a chunk with a usage for a client that did not ask for it: what else the server says in it, such as
// llama.cpp's timings, which would have come with another chunk if the gateway had not asked for the usage. It returns false if there
// is nothing else. The chunk gets a choice that adds nothing, because clients that did not ask for a usage expect one in every chunk, and the
// reason of the last finish in the last one. It is raw JSON, or nil if it is not known.
func WithoutUsage(e *Endpoint, chunk, reason []byte) (rest []byte, ok bool) {
	var o jsonspan.Object
	if o.Scan(chunk) != nil {
		return nil, false
	}
	for _, m := range o.Members {
		ok = ok || !usualMembers[string(m.Key.Of(chunk))] && !isEmpty(m.Value.Of(chunk))
	}
	if !ok {
		return nil, false
	}
	var edit jsonspan.Edit
	edit.Reset(&o)
	edit.Drop("usage")
	choice := `[{"index":0,"delta":{},"finish_reason":`
	if e.Prompts {
		choice = `[{"index":0,"text":"","finish_reason":`
	}
	if reason == nil {
		reason = []byte("null")
	}
	edit.Set("choices", append(append([]byte(choice), reason...), "}]"...))
	return edit.Bytes(), true
}
