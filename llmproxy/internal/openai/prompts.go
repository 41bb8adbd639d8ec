package openai

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// CountPrompts looks how many prompts a request for completions holds: its "prompt" is a text, a list of texts, a list of tokens,
// or a list of such lists.
func (h *Head) CountPrompts() {
	h.Prompts = 0
	prompt, _ := h.Get("prompt")
	if len(prompt) == 0 || prompt[0] != '[' {
		return
	}
	_ = jsonspan.EachElement(prompt, func(item []byte) bool { // the server says what is wrong with it
		if item[0] != '"' && item[0] != '[' {
			return false // tokens
		}
		h.Prompts++
		return true
	})
}

// maxChoices bounds what is believed of a request, so that nothing overflows that is reckoned with it.
const maxChoices = 1 << 30

// Choices is how many choices the answer has, over all prompts.
func (h *Head) Choices() int { return min(maxChoices, min(maxChoices, h.N)*max(1, h.Prompts)) }
