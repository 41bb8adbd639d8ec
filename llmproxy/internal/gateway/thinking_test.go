package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A choosy server answers requests that have none of the parts that it refuses, and refuses the others, each in its words.
type choosy struct {
	refuses map[string]string // parts, and the errors about them
	answer  string

	mu   sync.Mutex
	sent []string
}

func (c *choosy) RoundTrip(req *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(req.URL.Path, "/chat/completions") { // a probe
		return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: req}, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, string(body))
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(c.answer)), Request: req}
	for part, refusal := range c.refuses {
		if strings.Contains(string(body), part) {
			res.StatusCode, res.Body = http.StatusBadRequest, io.NopCloser(strings.NewReader(refusal))
		}
	}
	return res, nil
}

// A wish about thinking never fails a request. The server is asked for the nearest that it takes, and then at once; the client of each API
// reads the reasoning by its own name for it.
func TestWishesNeverFail(t *testing.T) {
	t.Parallel()
	const (
		said    = `{"choices":[{"index":0,"message":{"role":"assistant","reasoning":"hm","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
		harmony = `{"error":{"message":"reasoning_effort='none' is not supported by Harmony. Supported values are: high, medium, low.","type":"BadRequestError","param":"reasoning_effort","code":400}}`
		mistral = `{"error":{"message":"chat_template is not supported for Mistral tokenizers.","type":"BadRequestError","param":"chat_template","code":400}}`
	)
	for _, tt := range []struct {
		name, path, body string
		refuses          map[string]string
		attempts         int // at the first request
		last             []string
		reads            string
	}{
		{"a client of OpenAI's API", "/v1/chat/completions", `{"model":"m","reasoning_effort":"none","messages":[{"role":"user","content":"Hi"}]}`,
			map[string]string{`"reasoning_effort":"none"`: harmony}, 2, []string{`"reasoning_effort":"low"`, `"enable_thinking":false`}, `"reasoning_content":"hm"`},
		{"a client of Anthropic's API", "/v1/messages", `{"model":"m","max_tokens":64,"thinking":{"type":"disabled"},"messages":[{"role":"user","content":"Hi"}]}`,
			map[string]string{`"reasoning_effort":"none"`: harmony, `chat_template_kwargs`: mistral}, 3, []string{`"reasoning_effort":"low"`}, `{"type":"thinking","thinking":"hm"`},
		{"a client of Ollama's API", "/api/chat", `{"model":"m","stream":false,"think":false,"messages":[{"role":"user","content":"Hi"}]}`,
			map[string]string{`reasoning_effort`: `{"error":{"message":"Unrecognized request argument supplied: reasoning_effort"}}`}, 2, []string{`"enable_thinking":false`}, `"thinking":"hm"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := &choosy{refuses: tt.refuses, answer: said}
			s := &setup{t: t}
			s.up("a", upstream.VLLM, func(c *upstream.Config) { c.Transport = server }, "http://a")
			s.serve("m a/real")
			for i, want := range []int{tt.attempts, 1} {
				server.mu.Lock()
				server.sent = nil
				server.mu.Unlock()
				got := s.post(tt.path, tt.body)
				if got.status != http.StatusOK || !strings.Contains(got.body, tt.reads) {
					t.Fatalf("request %d: status %d, %s", i, got.status, got.body)
				}
				if n := len(server.sent); n != want {
					t.Errorf("request %d: %d attempts, want %d: %q", i, n, want, server.sent)
				}
				last := server.sent[len(server.sent)-1]
				if !slices.ContainsFunc(tt.last, func(part string) bool { return strings.Contains(last, part) }) {
					t.Errorf("request %d: %s", i, last)
				}
			}
		})
	}
}

// A request without a wish about thinking is not changed, byte for byte.
func TestNoWish(t *testing.T) {
	t.Parallel()
	for _, kind := range []*upstream.Kind{upstream.VLLM, upstream.LlamaCpp, upstream.OpenRouter, upstream.DeepSeek} {
		server := &choosy{answer: `{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`}
		s := &setup{t: t}
		s.up("a", kind, func(c *upstream.Config) { c.Transport = server }, "http://a")
		const body = `{"model": "m" ,"reasoning_effort":null, "chat_template_kwargs":{"x":1},"messages":[{"role":"user","content":"reasoning_effort"}]}`
		if got := s.serve("m a/real").post("/v1/chat/completions", body); got.status != http.StatusOK {
			t.Fatalf("%s: status %d", kind.Name, got.status)
		}
		if want := strings.Replace(body, `"m"`, `"real"`, 1); len(server.sent) != 1 || server.sent[0] != want {
			t.Errorf("%s: %q", kind.Name, server.sent)
		}
	}
}
