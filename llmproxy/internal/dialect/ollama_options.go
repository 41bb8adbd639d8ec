package dialect

import (
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// ollamaSampling are the options of Ollama that only choose tokens. All others concern the model in memory: a request that changes one of
// them makes Ollama load the model again.
var ollamaSampling = []string{
	"num_predict", "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "stop", "num_keep",
	"repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty",
}

// ollamaLoading are the options that change how a model is loaded.
var ollamaLoading = []string{
	"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "use_mlock", "num_thread", "draft_num_predict", "low_vram", "numa",
}

// ollamaMembers are the members of Ollama's requests that are not options and that OpenAI's format does not have.
var ollamaMembers = []string{"think", "format", "keep_alive", "truncate", "shift"}

// OllamaRestricted returns the names that a client of an Ollama server may use only if the configuration allows it: how a model is loaded
// and how long it stays.
func OllamaRestricted() []string { return append(slices.Clone(ollamaLoading), "keep_alive") }

// IsOllamaOption reports whether a name is that of an option, which belongs into the object options of a request.
func IsOllamaOption(name string) bool {
	return slices.Contains(ollamaSampling, name) || slices.Contains(ollamaLoading, name)
}

// AllowOllamaOptions removes from a request, in Ollama's format or in OpenAI's with Ollama's members, what its client may not use: each
// option that is not about choosing tokens, and keep_alive, unless it is among the allowed names.
func AllowOllamaOptions(e *jsonspan.Edit, allowed []string) {
	for _, name := range OllamaRestricted() {
		if !slices.Contains(allowed, name) && e.Has(name) {
			e.Drop(name)
		}
	}
	options, ok := e.Get("options")
	if !ok {
		return
	}
	kept, dropped := writer{[]byte{'{'}}, false
	_ = jsonspan.EachMember(options, func(key, value []byte) bool { // the upstream reports what is not an object
		name := string(jsonspan.Unescape(key))
		if !slices.Contains(ollamaSampling, name) && !slices.Contains(allowed, name) {
			dropped = true
			return true
		}
		kept.comma()
		kept.b = append(append(jsonspan.AppendString(kept.b, name), ':'), value...)
		return true
	})
	if dropped {
		e.Set("options", append(kept.b, '}'))
	}
}
