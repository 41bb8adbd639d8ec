package dialect

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// The translation of a plain request is the same with all options.
func TestPlainRequests(t *testing.T) {
	t.Parallel()
	options := []ChatOptions{{}, {TopK: true, Reasoning: true}, {Reasoning: true, Inline: true}}
	plain := map[API]int{}
	check := func(e *Endpoint, body []byte) {
		t.Helper()
		if !e.Plain(scan(t, string(body))) {
			return
		}
		plain[e.API]++
		want, _, err := e.Request(scan(t, string(body)), AllOptions)
		for _, o := range options {
			got, _, failed := e.Request(scan(t, string(body)), o)
			if (err == nil) != (failed == nil) || string(got) != string(want) {
				t.Errorf("%s with %+v: %v\n%s\nwant %v\n%s", body, o, failed, got, err, want)
			}
		}
	}
	for seed := range uint64(300) {
		c := conversation{generator: newGenerator(seed)}
		request := c.messages()
		for _, name := range []string{"", "thinking", "output_config", "top_k"} { // each leaves fewer reasons not to be plain
			delete(request, name)
			body, _ := json.Marshal(request)
			check(EndpointOf(openai.Messages), body)
		}
		own := newGenerator(seed).ollama()
		for _, name := range []string{"", "think", "keep_alive", "format", "options", "tools", "truncate", "shift", "logprobs", "top_logprobs"} {
			delete(own, name)
			body, _ := json.Marshal(own)
			check(EndpointOf(openai.OllamaChat), body)
		}
	}
	if plain[Anthropic] < 5 || plain[Ollama] < 5 {
		t.Errorf("only so many requests were plain: %v", plain)
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	messages, chat := plainMessages, plainOllama
	for _, test := range []struct {
		name string
		got  bool
		want bool
	}{
		{"a question", messages(scan(t, `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"stream":true,"system":"s"}`)), true},
		{"a tool and its result", messages(scan(t, `{"tools":[{"name":"f","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}]}`)), true},
		{"Anthropic's own tool", messages(scan(t, `{"tools":[{"name":"f","type":"web_search_20250305"}],"messages":[]}`)), false},
		{"thinking in the conversation", messages(scan(t, `{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a"}]}]}`)), false},
		{"hidden thinking", messages(scan(t, `{"messages":[{"role":"assistant","content":[{"type":"th\u0069nking"}]}]}`)), false},
		{"an image", messages(scan(t, `{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url"}}]}]}`)), false},
		{"thinking", messages(scan(t, `{"messages":[],"thinking":{"type":"enabled"},"output_config":{"effort":"low"}}`)), true},
		{"Ollama: a question", chat(scan(t, `{"model":"m","messages":[{"role":"user","content":"Hi"}],"options":{"temperature":0,"num_predict":5}}`)), true},
		{"Ollama: num_ctx", chat(scan(t, `{"messages":[],"options":{"num_ctx":5}}`)), false},
		{"Ollama: no limit", chat(scan(t, `{"messages":[],"options":{"num_predict":-1}}`)), false},
		{"Ollama: a result", chat(scan(t, `{"messages":[{"role":"Tool","content":"1"}]}`)), false},
		{"Ollama: images", chat(scan(t, `{"messages":[{"role":"user","content":"1","images":["x"]}]}`)), false},
		{"Ollama: think", chat(scan(t, `{"messages":[],"think":true}`)), true},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}
