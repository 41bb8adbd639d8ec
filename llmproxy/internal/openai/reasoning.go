package openai

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

var (
	reasoningKey        = []byte(`"reasoning`) // without its last quote
	reasoningContentKey = []byte(`"reasoning_content":`)
)

// mayName reports whether data has the key "reasoning". It looks for the g, which is rarer than what the key begins with: this runs for
// every event.
func mayName(data []byte) bool {
	for i := 0; ; {
		g := bytes.IndexByte(data[i:], 'g')
		if g < 0 {
			return false
		}
		if i += g + 1; i < len(data) && data[i] == '"' && bytes.HasSuffix(data[:i], reasoningKey) {
			return true
		}
	}
}

// NameReasoning adds reasoning_content to the messages and deltas of an answer, or of the data of an event, that call their reasoning
// "reasoning". OpenAI's format has no name for it; reasoning_content is what most servers call it, and what SDKs and editors read. It
// returns false if nothing is to be added, which takes a search for the key.
func NameReasoning(data []byte) ([]byte, bool) {
	if !mayName(data) || bytes.Contains(data, reasoningContentKey) {
		return data, false
	}
	var named []byte
	from := 0                                                                    // what precedes it in data is in named
	_ = jsonspan.EachElement(member(data, "choices"), func(choice []byte) bool { // an error has no choices
		_ = jsonspan.EachMember(choice, func(key, value []byte) bool { // the relay reports what is no choice
			if name := string(key); name != "delta" && name != "message" {
				return true
			}
			if reasoning := member(value, "reasoning"); len(reasoning) > 0 && reasoning[0] == '"' {
				end := cap(data) - cap(reasoning) + len(reasoning) // reasoning is a part of data
				named = append(append(append(append(named, data[from:end]...), ','), reasoningContentKey...), reasoning...)
				from = end
			}
			return true
		})
		return true
	})
	if named == nil {
		return data, false
	}
	return append(named, data[from:]...), true
}
