package dialect

import (
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// ollamaSampling are the options of Ollama that only choose tokens.
var ollamaSampling = []string{
	"num_predict", "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "stop", "num_keep",
	"repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty",
}

// ollamaLoading are the options that change how a model is loaded: with another value, Ollama loads it again.
var ollamaLoading = []string{
	"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "use_mlock", "num_thread", "draft_num_predict", "low_vram", "numa",
}

// OllamaRestricted are the names that clients of an Ollama server may use only if the configuration allows it: how a model is loaded, and
// how long it stays.
var OllamaRestricted = append(slices.Clone(ollamaLoading), keepAlive)

const keepAlive = "keep_alive"

// IsOllamaLoading reports whether a name is an option that changes how a model is loaded.
func IsOllamaLoading(name string) bool { return slices.Contains(ollamaLoading, name) }

func isOllamaOption(name string) bool {
	return slices.Contains(ollamaSampling, name) || slices.Contains(ollamaLoading, name)
}

// RestrictOllama removes from a request, in Ollama's format or in OpenAI's with Ollama's members, what its client may not use: each option
// that is not about choosing tokens, and keep_alive, unless it is among the allowed names.
func RestrictOllama(e *jsonspan.Edit, allowed []string) {
	for _, name := range OllamaRestricted {
		if !slices.Contains(allowed, name) && e.Has(name) {
			e.Drop(name)
		}
	}
	editOptions(e, func(name string) bool { return slices.Contains(ollamaSampling, name) || slices.Contains(allowed, name) })
}

// editOptions removes the options that are not wanted.
func editOptions(e *jsonspan.Edit, wanted func(name string) bool) {
	options, ok := e.Get("options")
	if !ok {
		return
	}
	kept, dropped := writer{[]byte{'{'}}, false
	jsonspan.Members(options, func(key, value []byte) bool { // the upstream reports what is not an object
		name := string(jsonspan.Unescape(key))
		if !wanted(name) {
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

// DropOllama removes a member of a request, and an option of the same name.
func DropOllama(e *jsonspan.Edit, name string) {
	e.Drop(name)
	editOptions(e, func(option string) bool { return option != name })
}

// DefaultOllama adds a member or an option that a request in OpenAI's format, with Ollama's members, does not have.
func DefaultOllama(e *jsonspan.Edit, name string, value []byte) {
	if options, ok := e.Get("options"); !ok || get(options, name) == nil {
		e.Default(name, value)
	}
}

// DefaultOllamaOwn adds a member or an option that a request in Ollama's own format does not have. The name may be OpenAI's.
func DefaultOllamaOwn(e *jsonspan.Edit, name string, value []byte) {
	switch name {
	case "max_tokens", "max_completion_tokens":
		name = "num_predict"
	case "repetition_penalty":
		name = "repeat_penalty"
	}
	if !isOllamaOption(name) {
		e.Default(name, value)
		return
	}
	if options, _ := e.Get("options"); get(options, name) == nil {
		SetOllamaOption(e, name, value)
	}
}

// SetOllamaOption sets an option of a request in Ollama's own format.
func SetOllamaOption(e *jsonspan.Edit, name string, value []byte) {
	var o jsonspan.Object
	options, ok := e.Get("options")
	if !ok || o.Scan(options) != nil {
		options = []byte("{}")
		_ = o.Scan(options) // it is an object
	}
	var inner jsonspan.Edit
	inner.Reset(&o)
	inner.Set(name, value)
	e.Set("options", inner.Bytes())
}

// thinkOf returns the value of think for a reasoning_effort, or "". Not every version knows a level above high.
func thinkOf(effort string) string {
	switch effort {
	case "none", "minimal":
		return "false"
	case "low":
		return `"low"`
	case "medium":
		return `"medium"`
	case "high", "xhigh", "max":
		return `"high"`
	}
	return ""
}
