package openai

import (
	"encoding/json"
	"testing"
)

func TestWithoutUsage(t *testing.T) {
	t.Parallel()
	const (
		usage = `"usage":{"prompt_tokens":5,"completion_tokens":2}`
		chat  = `"choices":[{"index":0,"delta":{},"finish_reason":null}]`
		text  = `"choices":[{"index":0,"text":"","finish_reason":null}]`
	)
	for _, tt := range []struct{ name, path, chunk, want string }{
		{"openai", "/v1/chat/completions", `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","system_fingerprint":"f","choices":[],` + usage + `}`, ""},
		{"obfuscated", "/v1/chat/completions", `{"choices":[],` + usage + `,"obfuscation":"x1y2"}`, ""},
		{"empty members", "/v1/chat/completions", `{"choices":[],` + usage + `,"timings":{},"x":null,"y":[]}`, ""},
		{"llama.cpp", "/v1/chat/completions", `{"choices":[],"id":"c",` + usage + `,"timings":{"prompt_n":5}}`, `{` + chat + `,"id":"c","timings":{"prompt_n":5}}`},
		{"usage first", "/v1/chat/completions", `{` + usage + `,"choices":null,"timings":{"prompt_n":5}}`, `{` + chat + `,"timings":{"prompt_n":5}}`},
		{"groq", "/v1/chat/completions", `{"choices":[],"x_groq":{"id":"r"},` + usage + `}`, `{` + chat + `,"x_groq":{"id":"r"}}`},
		{"perplexity", "/v1/chat/completions", `{` + usage + `,"citations":["https://a"]}`, `{"citations":["https://a"],` + chat + `}`},
		{"completions", "/v1/completions", `{"choices":[],` + usage + `,"timings":{"prompt_n":5}}`, `{` + text + `,"timings":{"prompt_n":5}}`},
		{"a number, as it is written", "/v1/chat/completions", `{"choices":[],` + usage + `,"cost":1.50e-3}`, `{` + chat + `,"cost":1.50e-3}`},
		{"not JSON", "/v1/chat/completions", `{"choices":[],`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, _ := LookupEndpoint(tt.path)
			rest, ok := WithoutUsage(e, []byte(tt.chunk), nil)
			if string(rest) != tt.want || ok != (tt.want != "") {
				t.Errorf("got %s, want %s", rest, tt.want)
			}
		})
	}
}

func FuzzWithoutUsage(f *testing.F) {
	f.Add([]byte(`{"choices":[],"usage":{"prompt_tokens":5},"timings":{"prompt_n":5}}`))
	chat, _ := LookupEndpoint("/v1/chat/completions")
	f.Fuzz(func(t *testing.T, chunk []byte) {
		rest, ok := WithoutUsage(chat, chunk, nil)
		if ok && json.Valid(chunk) && !json.Valid(rest) {
			t.Errorf("%q became %q", chunk, rest)
		}
		if e := Chunks.First(nil, rest); ok && json.Valid(chunk) && (e.UsageOnly || e.Finish || e.Content) {
			t.Errorf("%q became %q, which means something", chunk, rest)
		}
	})
}
