package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A completion is what a client of completions has at the end.
type completion struct {
	Object, Text, Finish string
	Usage                bool
}

// readCompletion reads an answer, or a stream.
func readCompletion(t *testing.T, body string) (c completion) {
	t.Helper()
	add := func(chunk map[string]any) {
		c.Object, _ = chunk["object"].(string)
		c.Usage = c.Usage || chunk["usage"] != nil
		for _, choice := range chunk["choices"].([]any) {
			choice := choice.(map[string]any)
			c.Text += choice["text"].(string)
			if finish, ok := choice["finish_reason"].(string); ok {
				c.Finish = finish
			}
		}
	}
	if strings.HasPrefix(body, "{") {
		add(decoded(t, body))
		return c
	}
	events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
	for _, e := range events[:len(events)-1] {
		if !strings.HasPrefix(e, ":") {
			add(decoded(t, strings.TrimPrefix(e, "data: ")))
		}
	}
	if last := events[len(events)-1]; last != "data: [DONE]" {
		t.Errorf("the stream ends with %s", last)
	}
	return c
}

// Clients of completions get them from servers that have chat only, too.
func TestCompletionsByChat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fake string
		kind       *upstream.Kind
		base, path string // at the server
	}{
		{"groq", "openai", upstream.Groq, "/openai/v1", "/openai/v1/chat/completions"},
		{"anthropic", "anthropic", upstream.Anthropic, "", "/v1/messages"},
		{"openai", "openai", upstream.OpenAI, "", "/v1/completions"},
		{"ollama", "ollama", upstream.Ollama, "", "/v1/completions"},
		{"vllm", "vllm", upstream.VLLM, "", "/v1/completions"},
		{"llamacpp", "llamacpp", upstream.LlamaCpp, "", "/v1/completions"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, tt.fake, fakellm.Models("x"))
			fake.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 0))
			s := &setup{t: t}
			s.up("u", tt.kind, nil, fake.URL()+tt.base)
			s.serve("m u/x")
			for _, stream := range []string{"", `,"stream":true`, `,"stream":true,"stream_options":{"include_usage":true}`} {
				got := s.post("/v1/completions", `{"model":"m","prompt":"Hi"`+stream+`}`)
				if got.status != http.StatusOK {
					t.Fatalf("status %d: %s", got.status, got.body)
				}
				read := readCompletion(t, got.body)
				want := completion{"text_completion", "Hello", "stop", stream == "" || strings.Contains(stream, "usage")}
				if !want.Usage && strings.HasSuffix(tt.path, "/completions") && !strings.HasSuffix(tt.path, "/chat/completions") {
					want.Usage = read.Usage // some servers send it unasked, with the text
				}
				if diff := cmp.Diff(want, read); diff != "" {
					t.Errorf("%s: %s\n%s", stream, diff, got.body)
				}
				if path := last(fake).Path; path != tt.path {
					t.Errorf("asked for %s", path)
				}
			}
			if rec := s.record(); rec.Usage != (tokens.Usage{Input: 30, Output: 5}) || rec.Estimated {
				t.Errorf("usage %+v, estimated %v", rec.Usage, rec.Estimated)
			}
		})
	}
}

// A parameter that chat does not have goes to a target that has it; without such a target, the error names the parameter.
func TestCompletionsThatAreNoChat(t *testing.T) {
	t.Parallel()
	chat, other := fakellm.Start(t, "anthropic", fakellm.Models("x")), fakellm.Start(t, "openai", fakellm.Models("x"))
	s := &setup{t: t}
	s.up("chat", upstream.Anthropic, nil, chat.URL())
	s.up("other", upstream.OpenAI, nil, other.URL())
	s.serve("m chat/x", "both chat/x | other/x")
	body := func(model string) string { return `{"model":"` + model + `","prompt":"Hi","echo":true}` }
	got := s.post("/v1/completions", body("m"))
	if want := told("echo: is not possible with this model, which has a chat API only; leave it out", "invalid_request_error", "echo", "invalid_request"); got.status != http.StatusBadRequest || got.body != want {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.post("/v1/completions", body("both")); got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "other/x" {
		t.Errorf("status %d from %s: %s", got.status, got.header.Get("X-Llm-Target"), got.body)
	}
	if n := len(chat.Requests()); n != 0 {
		t.Errorf("the chat API saw %d requests", n)
	}
}

// An answer that is not one of chat is a failure, before the commit and after it.
func TestCompletionsOfBrokenChat(t *testing.T) {
	t.Parallel()
	broken, sound := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.up("a", upstream.Groq, nil, broken.URL()+"/v1")
	s.up("b", upstream.OpenAI, nil, sound.URL())
	s.serve("m a/x | b/x", "only a/x")
	for name, answer := range map[string]fakellm.Answer{
		"no choices":     fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"output":"Hi"}`)),
		"an error":       fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"out of memory"}}`)),
		"an error event": fakellm.RawEvents(`data: {"error":{"message":"out of memory"}}`, "data: [DONE]"),
		"a page":         fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"text/html"}}, []byte("<html>Hi</html>")),
		"cut":            fakellm.Text("a", "b").CutAfter(0),
	} {
		broken.Always(answer)
		for _, stream := range []string{"", `,"stream":true`} {
			got := s.post("/v1/completions", `{"model":"m","prompt":"Hi"`+stream+`}`)
			if got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "b/x" {
				t.Errorf("%s%s: status %d from %s, tried %s: %s", name, stream, got.status, got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Attempts"), got.body)
			}
		}
	}
	broken.Always(fakellm.Text("a", "b").CutAfter(1))
	got := s.post("/v1/completions", `{"model":"only","prompt":"Hi","stream":true}`)
	events := strings.Split(strings.TrimSpace(got.body), "\n\n")
	if last := events[len(events)-1]; !strings.Contains(last, `data: {"error":{"message":"The upstream`) || !strings.Contains(got.body, `"text":"a"`) {
		t.Errorf("got %s", got.body)
	}
}
