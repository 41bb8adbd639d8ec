package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A modelEntry is a model in the list for clients. In JSON, it has the members of OpenAI's list, those in which clients look for the
// context window, and what the upstream's list says of the model.
type modelEntry struct {
	upstream.Model
	has, lacks router.Feature // what is known
}

// describe returns the entry for a model of an upstream.
func describe(u *upstream.Upstream, m upstream.Model) *modelEntry {
	m, known := u.Describe(m)
	m.Owner = cmp.Or(m.Owner, u.Name)
	return &modelEntry{Model: m, has: known.Has, lacks: known.Lacks}
}

// merge adds another target of the same name, so that the numbers and features are true of both. The details stay those of the first.
func (e *modelEntry) merge(other *modelEntry) {
	details := e.Details
	e.Merge(other.Model)
	if len(details) > 0 {
		e.Details = details
	}
	e.has, e.lacks = e.has&other.has, e.lacks|other.lacks
}

// MarshalJSON implements json.Marshaler.
func (e *modelEntry) MarshalJSON() ([]byte, error) {
	b := jsonspan.AppendString([]byte(`{"id":`), e.ID)
	b = fmt.Appendf(b, `,"object":"model","created":%d,"owned_by":`, e.Created)
	b = jsonspan.AppendString(b, e.Owner)
	if n := e.ContextWindow; n > 0 { // the names of OpenRouter and Together, of vLLM, and of Groq
		b = fmt.Appendf(b, `,"context_length":%d,"max_model_len":%d,"context_window":%d`, n, n, n)
	}
	if n := e.MaxOutput; n > 0 {
		b = fmt.Appendf(b, `,"max_completion_tokens":%d,"max_output_tokens":%d`, n, n)
	}
	details := make(map[string]json.RawMessage, len(e.Details))
	for _, d := range e.Details {
		details[d.Name] = d.Value
	}
	if e.has|e.lacks != 0 {
		details["capabilities"] = e.capabilities(details["capabilities"])
	}
	if (e.has|e.lacks)&(router.Images|router.Audio) != 0 {
		details["architecture"] = e.architecture(details["architecture"])
	}
	for _, name := range slices.Sorted(maps.Keys(details)) {
		if details[name] != nil {
			b = append(jsonspan.AppendString(append(b, ','), name), ':')
			b = append(b, details[name]...)
		}
	}
	return append(b, '}'), nil
}

// featureWords are the words for a feature in lists of capabilities and of modalities. The first one is added to a list that has none.
var featureWords = []struct {
	feature                  router.Feature
	capabilities, modalities []string
}{
	{router.Tools, []string{"tools", "tool_use", "tool_calling", "function_calling"}, nil},
	{router.Images, []string{"vision", "images", "image"}, []string{"image"}},
	{router.Audio, []string{"audio"}, []string{"audio"}},
	{router.JSONSchema, []string{"json_schema", "structured_outputs"}, nil},
}

// capabilities corrects a server's list of capabilities, such as Ollama's, or its object of them, such as Mistral's. Without one, it
// returns a list of what is known.
func (e *modelEntry) capabilities(stated json.RawMessage) json.RawMessage {
	var flags map[string]json.RawMessage
	if json.Unmarshal(stated, &flags) == nil {
		for _, w := range featureWords {
			for _, word := range w.capabilities {
				if flags[word] != nil && (e.has|e.lacks)&w.feature != 0 {
					flags[word] = encoded(e.has&w.feature != 0)
				}
			}
		}
		return encoded(flags)
	}
	var list []string
	if stated != nil && json.Unmarshal(stated, &list) != nil {
		return stated
	}
	for _, w := range featureWords {
		list = e.correct(list, w.feature, w.capabilities)
	}
	return encodedList(list)
}

// architecture corrects the input modalities in a server's description of a model, in OpenRouter's format.
func (e *modelEntry) architecture(stated json.RawMessage) json.RawMessage {
	var object map[string]json.RawMessage
	if stated != nil && json.Unmarshal(stated, &object) != nil {
		return stated
	}
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	list := []string{"text"}
	if inputs := object["input_modalities"]; inputs != nil && json.Unmarshal(inputs, &list) != nil {
		return stated
	}
	for _, w := range featureWords {
		list = e.correct(list, w.feature, w.modalities)
	}
	object["input_modalities"] = encodedList(list)
	return encoded(object)
}

// correct adds the first word to a list that has none of the words, if the model is known to have the feature, and removes all of
// them if it is known to lack it.
func (e *modelEntry) correct(list []string, feature router.Feature, words []string) []string {
	isWord := func(s string) bool { return slices.Contains(words, s) }
	switch {
	case len(words) == 0:
	case e.lacks&feature != 0:
		return slices.DeleteFunc(list, isWord)
	case e.has&feature != 0 && !slices.ContainsFunc(list, isWord):
		return append(list, words[0])
	}
	return list
}

// encodedList returns nil for an empty list, which would say that the model can do nothing.
func encodedList(list []string) json.RawMessage {
	if len(list) == 0 {
		return nil
	}
	return encoded(list)
}

func encoded(v any) json.RawMessage {
	b, _ := json.Marshal(v) // it was decoded from JSON
	return b
}
