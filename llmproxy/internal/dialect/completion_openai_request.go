package dialect

import (
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// onlyCompletions are the members of a request for completions that chat does not have, with the values that ask for nothing.
var onlyCompletions = []struct {
	name    string
	nothing []string
}{
	{"logprobs", []string{"null", "false"}}, {"echo", []string{"null", "false"}}, {"suffix", []string{"null", `""`}}, {"best_of", []string{"null", "1"}},
}

// onlyChat are members that a server of completions ignores and a server of chat does not.
var onlyChat = []string{"messages", "tools", "tool_choice", "functions", "function_call"}

// ChatFromCompletion translates a request for OpenAI's older completions to one for chat, in which a user says the prompt. All other
// members have the same name and meaning in both, or are a server's own.
func ChatFromCompletion(r *jsonspan.Object) ([]byte, *openai.Error) {
	prompt, _ := r.Get("prompt")
	text, err := onlyPrompt(prompt)
	if err != nil {
		return nil, err
	}
	var e jsonspan.Edit
	e.Reset(r)
	for _, m := range onlyCompletions {
		if value, ok := e.Get(m.name); ok && !slices.Contains(m.nothing, string(value)) {
			return nil, invalid(m.name, "is not possible with this model, which has a chat API only; leave it out")
		}
		e.Drop(m.name)
	}
	for _, name := range onlyChat {
		if e.Has(name) {
			return nil, invalid(name, "belongs to chat; send the request to /v1/chat/completions")
		}
	}
	e.Drop("prompt")
	w := writer{[]byte(`[{"role":"user"`)}
	w.member("content", text)
	w.raw("}]")
	e.Set("messages", w.b)
	return e.Bytes(), nil
}

// onlyPrompt returns the prompt: a text, or a list of one.
func onlyPrompt(value []byte) (text []byte, err *openai.Error) {
	const param = "prompt"
	prompts := 0
	if len(value) > 0 && value[0] == '[' {
		jsonspan.Elements(value, func(prompt []byte) bool { // the request was scanned
			prompts++
			text = prompt
			return true
		})
	} else {
		prompts, text = 1, value
	}
	switch {
	case len(value) == 0 || jsonspan.IsNull(value) || prompts == 0:
		return nil, invalid(param, "is missing; send a text")
	case text[0] != '"':
		return nil, invalid(param, "must be a text, because this model has a chat API only: tokens are not possible")
	case prompts > 1:
		return nil, invalid(param, "has "+strconv.Itoa(prompts)+" texts, and this model has a chat API only; send a request for each")
	case !isText(text):
		return nil, invalid(param, "is empty; send a text")
	}
	return text, nil
}
