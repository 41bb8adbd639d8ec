package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each client's wish about thinking reaches the template of a real llama.cpp: here one whose model thinks unless it is told not to.
func TestThinkingReachesTheTemplate(t *testing.T) {
	var props struct {
		Template string `json:"chat_template"`
	}
	answer, err := http.Get(servers(t).llama.url() + "/props")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(&props); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "template.jinja")
	const thinks = "{%- if enable_thinking is not defined or enable_thinking %}THINK{%- endif %}"
	if err := os.WriteFile(file, []byte(thinks+props.Template), 0o600); err != nil {
		t.Fatal(err)
	}
	llama := startLlama(t, "tiny", "--template", file)
	g := startGateway(t, fill(`
	llm_proxy {
		upstream llama llamacpp LLAMA
		upstream quiet llamacpp LLAMA {
			params reasoning_effort none
		}
		model m llama/tiny
		model pinned quiet/tiny
	}`, "LLAMA", llama.url()))
	const (
		chat, messages = "/v1/chat/completions", `"messages":[{"role":"user","content":"hi"}]`
		thought        = "user wants a greeting"
	)
	for _, tt := range []struct {
		name, path, body string
		thinks           bool
	}{
		{"chat: nothing", chat, `{"model":"m",` + messages + `}`, true},
		{"chat: off", chat, `{"model":"m","reasoning_effort":"none",` + messages + `}`, false},
		{"chat: hardly", chat, `{"model":"m","reasoning_effort":"minimal",` + messages + `}`, false},
		{"chat: on", chat, `{"model":"m","reasoning_effort":"high",` + messages + `}`, true},
		{"chat: llama.cpp's own word", chat, `{"model":"m","chat_template_kwargs":{"enable_thinking":false},` + messages + `}`, false},
		{"chat: DeepSeek's word", chat, `{"model":"m","thinking":{"type":"disabled"},` + messages + `}`, false},
		{"chat: pinned", chat, `{"model":"pinned",` + messages + `}`, false},
		{"chat: pinned, but on", chat, `{"model":"pinned","reasoning_effort":"low",` + messages + `}`, true},
		{"responses: nothing", "/v1/responses", `{"model":"m","input":"hi"}`, true},
		{"responses: off", "/v1/responses", `{"model":"m","input":"hi","reasoning":{"effort":"none"}}`, false},
		{"Anthropic: nothing", "/v1/messages", `{"model":"m","max_tokens":200,` + messages + `}`, true},
		{"Anthropic: off", "/v1/messages", `{"model":"m","max_tokens":200,"thinking":{"type":"disabled"},` + messages + `}`, false},
		{"Anthropic: adaptive", "/v1/messages", `{"model":"m","max_tokens":200,"thinking":{"type":"adaptive"},` + messages + `}`, true},
		{"Anthropic: pinned", "/v1/messages", `{"model":"pinned","max_tokens":200,` + messages + `}`, false},
		{"Ollama: nothing", "/api/chat", `{"model":"m","stream":false,` + messages + `}`, true},
		{"Ollama: off", "/api/chat", `{"model":"m","stream":false,"think":false,` + messages + `}`, false},
		{"Ollama: on", "/api/chat", `{"model":"m","stream":false,"think":true,` + messages + `}`, true},
		{"Ollama: pinned", "/api/generate", `{"model":"pinned","stream":false,"prompt":"hi"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := post(t, g.url+tt.path, tt.body)
			if strings.Contains(body, thought) != tt.thinks || !strings.Contains(body, hello) {
				t.Errorf("thinks %v, want %v: %s", !tt.thinks, tt.thinks, body)
			}
		})
	}
}

// post sends a request that must be answered, and returns the answer.
func post(t *testing.T, url, body string) string {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", res.StatusCode, err, answer)
	}
	return string(answer)
}

// A real Ollama refuses to let a model think that cannot. No client hears of that.
func TestOllamaRefusesToThink(t *testing.T) {
	g := startGateway(t, fill(`
	llm_proxy {
		upstream ollama ollama OLLAMA
		model m ollama/tiny:latest
	}`, "OLLAMA", servers(t).ollama.url()))
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	for i, want := range []string{"2", "1"} { // with a level and without, and then at once
		res, err := http.Post(g.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","reasoning_effort":"high",`+messages+`}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got, _, _ := strings.Cut(res.Header.Get("X-LLM-Attempts"), ";"); res.StatusCode != http.StatusOK || got != want {
			t.Errorf("request %d: status %d after %s attempts, want %s", i, res.StatusCode, got, want)
		}
	}
	for _, tt := range []struct{ name, path, body string }{
		{"a client of OpenAI's API", "/v1/chat/completions", `{"model":"m","reasoning_effort":"high",` + messages + `}`},
		{"a client of the Responses API", "/v1/responses", `{"model":"m","reasoning":{"effort":"high"},"input":"hi"}`},
		{"a client of Anthropic's API", "/v1/messages", `{"model":"m","max_tokens":200,"thinking":{"type":"enabled","budget_tokens":2048},` + messages + `}`},
		{"no thinking at all", "/v1/chat/completions", `{"model":"m","reasoning_effort":"none",` + messages + `}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if body := post(t, g.url+tt.path, tt.body); !strings.Contains(body, hello) {
				t.Errorf("got %s", body)
			}
		})
	}
}
