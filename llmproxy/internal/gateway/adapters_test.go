package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// ask sends a GET without a key.
func (s *setup) ask(path string, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.do(req)
}

// Adapters of vLLM are models like any other: listed in every format, found by their names and by patterns, with the context window of
// their model.
func TestAdaptersAreModels(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "vllm", fakellm.Models("qwen"), fakellm.Adapters("qwen", "qwen-sql", "poems"))
	s := &setup{t: t}
	s.up("box", upstream.VLLM, nil, fake.URL())
	s.config.Discover = true
	s.serve("sql box/qwen-sql", "*-sql box")

	got := s.ask("/v1/models")
	for _, want := range []string{
		`{"id":"sql","object":"model","created":1795424810,"owned_by":"vllm","context_length":4096,"max_model_len":4096,"context_window":4096,"parent":"qwen"}`,
		`{"id":"qwen-sql","object":"model","created":1795424810,"owned_by":"vllm","context_length":4096,"max_model_len":4096,"context_window":4096,"parent":"qwen"}`,
		`{"id":"qwen","object":"model","created":1795424810,"owned_by":"vllm","context_length":4096,"max_model_len":4096,"context_window":4096,"root":"qwen"}`,
	} {
		if strings.Count(got.body, want) != 1 {
			t.Errorf("%s is not in %s", want, got.body)
		}
	}
	if strings.Contains(got.body, "/adapters/") {
		t.Errorf("a path of the server is in %s", got.body)
	}
	if got := s.ask("/v1/models/poems"); got.status != http.StatusOK || !strings.Contains(got.body, `"parent":"qwen"`) {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.ask("/api/tags"); !strings.Contains(got.body, `"name":"poems"`) || strings.Count(got.body, `"parent_model":"qwen"`) != 3 {
		t.Errorf("tags: %s", got.body)
	}
	if got := s.ask("/v1/models", "Anthropic-Version", "2023-06-01"); !strings.Contains(got.body, `"id":"poems"`) || strings.Count(got.body, `"max_input_tokens":4096`) != 4 {
		t.Errorf("Anthropic's list: %s", got.body)
	}
	for model, want := range map[string]string{"sql": "qwen-sql", "qwen-sql": "qwen-sql", "poems": "poems"} {
		if got := s.post("/v1/chat/completions", chat(model, false)); got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "box/"+want {
			t.Errorf("%s: status %d from %s: %s", model, got.status, got.header.Get("X-Llm-Target"), got.body)
		}
		if body := string(last(fake).Body); !strings.Contains(body, `"model":"`+want+`"`) {
			t.Errorf("%s: sent %s", model, body)
		}
	}
}

// A prompt that is too long for the model is too long for its adapter.
func TestAdaptersHaveTheirModelsWindow(t *testing.T) {
	t.Parallel()
	box, big := fakellm.Start(t, "vllm", fakellm.Models("qwen"), fakellm.Adapters("qwen", "sql")), fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.up("box", upstream.VLLM, nil, box.URL())
	s.up("big", upstream.OpenAI, nil, big.URL())
	s.serve("m box/sql | big/y")
	long := strings.Replace(chat("m", false), "Hi", strings.Repeat("a b c d ", 4096), 1)
	until(t, func() bool { return s.post("/v1/chat/completions", long).header.Get("X-Llm-Target") == "big/y" })
	if got := s.post("/v1/chat/completions", chat("m", false)); got.header.Get("X-Llm-Target") != "box/sql" {
		t.Errorf("a short prompt went to %s: %s", got.header.Get("X-Llm-Target"), got.body)
	}
}
