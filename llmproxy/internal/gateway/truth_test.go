package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A prompt that does not fit goes to a target where it does, and the small target never sees it.
func TestFitsBeforeAnyAttempt(t *testing.T) {
	long := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 1000) + `"}]}`
	parts := func(part string) string {
		return `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"Hi"},` + part + `]}]}`
	}
	for _, tt := range []struct {
		name   string
		can    upstream.Override
		path   string
		body   string
		passed bool // over
	}{
		{"short", upstream.Override{ContextWindow: 1024}, "", chat("m", false), false},
		{"long", upstream.Override{ContextWindow: 1024}, "", long, true},
		{"long, limit unknown", upstream.Override{}, "", long, false},
		{"long, and room for it", upstream.Override{ContextWindow: 4096}, "", long, false},
		{"long output alone", upstream.Override{ContextWindow: 1024}, "", `{"model":"m","max_tokens":100000,"messages":[{"role":"user","content":"Hi"}]}`, false},
		{"tools", upstream.Override{Cannot: router.Tools}, "", `{"model":"m","messages":[],"tools":[{}]}`, true},
		{"no tools", upstream.Override{Cannot: router.Tools}, "", `{"model":"m","messages":[],"tools":[]}`, false},
		{"image", upstream.Override{Cannot: router.Images}, "", parts(`{"type":"image_url","image_url":{"url":"data:,"}}`), true},
		{"audio", upstream.Override{Cannot: router.Audio}, "", parts(`{"type":"input_audio","input_audio":{}}`), true},
		{"schema", upstream.Override{Cannot: router.JSONSchema}, "", `{"model":"m","messages":[],"response_format":{"type":"json_schema"}}`, true},
		{"many short inputs", upstream.Override{ContextWindow: 512}, "/v1/embeddings", `{"model":"m","input":["` + strings.Repeat(`word","`, 2000) + `"]}`, false},
		{"one long input", upstream.Override{ContextWindow: 512}, "/v1/embeddings", `{"model":"m","input":["` + strings.Repeat(`word `, 2000) + `"]}`, true},
		{"long responses", upstream.Override{ContextWindow: 512}, "/v1/responses", `{"model":"m","input":"` + strings.Repeat(`word `, 2000) + `"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			small, large := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
			s := &setup{t: t}
			s.up("small", upstream.OpenAI, func(c *upstream.Config) { c.Override = tt.can }, small.URL())
			s.up("large", upstream.OpenAI, nil, large.URL())
			s.serve("m small/x | large/y")
			path := tt.path
			if path == "" {
				path = "/v1/chat/completions"
			}
			got := s.post(path, tt.body)
			want := map[bool][3]string{false: {"small/x", "m", "1"}, true: {"large/y", "fallback:unsupported", "1"}}[tt.passed]
			if h := got.header; got.status != http.StatusOK || h.Get("X-Llm-Target") != want[0] || h.Get("X-Llm-Route") != want[1] || h.Get("X-Llm-Attempts") != want[2] {
				t.Errorf("status %d, target %q, route %q, attempts %q", got.status, h.Get("X-Llm-Target"), h.Get("X-Llm-Route"), h.Get("X-Llm-Attempts"))
			}
			if n := len(small.Requests()); n > 0 == tt.passed {
				t.Errorf("the small one saw %d requests", n)
			}
		})
	}
}

// An estimate may be wrong: where nothing seems to fit, the upstream itself says so.
func TestNothingFits(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	fake := fakellm.Start(t, "openai")
	s.up("u", upstream.OpenAI, func(c *upstream.Config) { c.Override.ContextWindow = 10 }, fake.URL())
	s.serve("m u/x")
	if got := s.post("/v1/chat/completions", chat("m", false)); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// A limit that an error told is known to the next request.
func TestLimitsAreLearned(t *testing.T) {
	t.Parallel()
	small, large := fakellm.Start(t, "vllm", fakellm.Models("another")), fakellm.Start(t, "openai")
	small.Always(fakellm.TooLong())
	s := &setup{t: t}
	s.up("small", upstream.VLLM, nil, small.URL())
	s.up("large", upstream.OpenAI, nil, large.URL())
	s.serve("m small/x | large/y")
	body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 5000) + `"}]}`
	for i, attempts := range []string{"2", "1"} {
		got := s.post("/v1/chat/completions", body)
		if got.header.Get("X-Llm-Attempts") != attempts || got.header.Get("X-Llm-Target") != "large/y" || got.header.Get("X-Llm-Route") != "fallback:unsupported" {
			t.Errorf("request %d: %v", i+1, got.header)
		}
	}
	if n := len(small.Requests()); n != 1 {
		t.Errorf("the small one was asked %d times", n)
	}
}

// Ollama cuts a prompt that does not fit and says nothing; its count does.
func TestTruncationIsTold(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "stream"}[stream], func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "ollama", fakellm.Models("x"))
			fake.Always(fakellm.Text("Hello").Usage(4096, 1, 0))
			s := &setup{t: t}
			s.up("u", upstream.Ollama, func(c *upstream.Config) { c.Override.ContextWindow = 4096 }, fake.URL())
			s.serve("m u/x")
			body := `{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 10_000) + `"}]`
			if stream {
				body += `,"stream":true`
			}
			got := s.post("/v1/chat/completions", body+"}")
			want := "truncated"
			if stream {
				want = ""
			}
			if got.status != http.StatusOK || got.header.Get("X-Llm-Warning") != want {
				t.Errorf("status %d, warning %q", got.status, got.header.Get("X-Llm-Warning"))
			}
			if rec := s.record(); rec.Warning != "truncated" {
				t.Errorf("recorded is %q", rec.Warning)
			}
		})
	}
}
