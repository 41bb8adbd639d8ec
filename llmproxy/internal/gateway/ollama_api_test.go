package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Requests for an Ollama server go to its own API, with what the configuration adds, and without what it does not allow.
func TestRequestsToOllama(t *testing.T) {
	t.Parallel()
	const hi = `"messages":[{"role":"user","content":"x"}]`
	for _, test := range []struct{ name, path, send, to, want string }{
		{
			"chat", "/v1/chat/completions", `{"model":"m","max_completion_tokens":5,"temperature":0.50,` + hi + `}`,
			"/api/chat", `{"model":"real","stream":false,"options":{"num_predict":5,"temperature":0.50,"seed":7},"keep_alive":"1h",` + hi + `}`,
		},
		{
			"a client's own options", "/v1/chat/completions", `{"model":"m","stream":true,"num_gpu":9,"keep_alive":-1,"think":true,"seed":1,"options":{"num_ctx":8192,"num_thread":3,"mirostat":1,"top_k":4},` + hi + `}`,
			"/api/chat", `{"model":"real","stream":true,"options":{"seed":1,"num_ctx":8192,"top_k":4},"think":true,"keep_alive":"1h",` + hi + `}`,
		},
		{
			"Anthropic's API", "/v1/messages", `{"model":"m","max_tokens":5,"top_k":4,"system":"S",` + hi + `}`,
			"/api/chat", `{"model":"real","stream":false,"options":{"num_predict":5,"top_k":4,"seed":7},"keep_alive":"1h","messages":[{"role":"system","content":"S"},{"role":"user","content":"x"}]}`,
		},
		{
			"embeddings", "/v1/embeddings", `{"model":"m","input":["a"],"encoding_format":"float"}`,
			"/api/embed", `{"model":"real","input":["a"],"keep_alive":"1h","options":{"seed":7}}`,
		},
		{
			"completions", "/v1/completions", `{"model":"m","prompt":"x","max_tokens":5}`,
			"/v1/completions", `{"model":"real","prompt":"x","max_tokens":5,"keep_alive":"1h","seed":7}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "ollama", func(c *upstream.Config) {
				c.Params = []upstream.Param{{Name: "keep_alive", Value: []byte(`"1h"`)}, {Name: "seed", Value: []byte("7")}}
				c.AllowOptions = []string{"num_ctx"}
			})
			s.serve("m u/real")
			if got := s.post(test.path, test.send); got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			request := fake.Requests()[0]
			if diff := cmp.Diff(test.want, string(request.Body)); diff != "" || request.Path != test.to {
				t.Errorf("to %s: %s", request.Path, diff)
			}
		})
	}
}

// A model is loaded with the options that its requests will have. With others, Ollama would load it twice.
func TestOllamaLoadsWithItsOptions(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "ollama", func(c *upstream.Config) {
		c.Params = []upstream.Param{{Name: "keep_alive", Value: []byte("-1")}, {Name: "num_ctx", Value: []byte("8192")}, {Name: "seed", Value: []byte("7")}}
	})
	s.serve("m u/real")
	s.post(chatPath, `{"model":"m","messages":[{"role":"user","content":"x"}]}`)
	for _, probe := range fake.Probes() {
		if probe.Path == "/api/generate" {
			const want = `{"keep_alive":-1,"model":"real","options":{"num_ctx":8192},"stream":false}`
			if diff := cmp.Diff(want, string(probe.Body)); diff != "" {
				t.Error(diff)
			}
			return
		}
	}
	t.Error("the model was not loaded")
}

// Answers of Ollama's own API reach clients of the other APIs in their formats.
func TestAnswersOfOllama(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "ollama", nil)
	fake.Always(fakellm.Text("Hel", "lo").Usage(30, 7, 0))
	s.serve("m u/x")
	const hi = `"messages":[{"role":"user","content":"x"}]}`
	for _, test := range []struct {
		name, path, send string
		want             []string
	}{
		{"whole", "/v1/chat/completions", `{"model":"m",` + hi, []string{`"message":{"role":"assistant","content":"Hello"}`, `"finish_reason":"stop"`, `"prompt_tokens":30,"completion_tokens":7,`, `"timings":{"total_ms":69.681066,`}},
		{"stream", "/v1/chat/completions", `{"model":"m","stream":true,` + hi, []string{`"delta":{"content":"Hel"}`, `"delta":{"content":"lo"}`, `"finish_reason":"stop"}],"timings":{`, "[DONE]"}},
		{"stream with usage", "/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},` + hi, []string{`"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7,`, "[DONE]"}},
		{"message", "/v1/messages", `{"model":"m","max_tokens":9,` + hi, []string{`"content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn"`, `"input_tokens":30`}},
		{"message as a stream", "/v1/messages", `{"model":"m","max_tokens":9,"stream":true,` + hi, []string{"event: message_start", `"text":"Hel"`, `"stop_reason":"end_turn"`, `"output_tokens":7`, "event: message_stop"}},
		{"embeddings", "/v1/embeddings", `{"model":"m","input":["a","b"],"dimensions":1}`, []string{`{"object":"embedding","index":0,"embedding":[`, `"index":1,"embedding":[`, `"usage":{"prompt_tokens":14,"total_tokens":14}`}},
		{"embeddings in base64", "/v1/embeddings", `{"model":"m","input":"a","dimensions":1,"encoding_format":"base64"}`, []string{`"embedding":"`}},
	} {
		got := s.post(test.path, test.send)
		rest := got.body
		for _, part := range test.want {
			_, after, found := strings.Cut(rest, part)
			if !found {
				t.Errorf("%s: status %d, %s is missing in %s", test.name, got.status, part, got.body)
				break
			}
			rest = after
		}
	}
}

// Failures of Ollama's own API have the same verdicts as elsewhere.
func TestFailuresOfOllama(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		stream bool
		want   router.Verdict
	}{
		{"busy", fakellm.Busy(), false, router.Overloaded},
		{"unknown model", fakellm.UnknownModel(), false, router.Misconfigured},
		{"too long", fakellm.TooLong(), false, router.Unsupported},
		{"no tools", fakellm.NoTools(), true, router.Unsupported},
		{"a crash", fakellm.InternalError(), true, router.Failed},
		{"unauthorized", fakellm.Unauthorized(), false, router.Misconfigured},
		{"an error at once", fakellm.Text("a").ErrorEventAfter(0), true, router.Failed},
		{"an error in a whole answer", fakellm.ErrorInside200(), false, router.Failed},
		{"cut before the first word", fakellm.Text("a").CutAfter(0), true, router.Failed},
		{"dropped", fakellm.Text("a").DropAfter(0), true, router.Failed},
		{"no JSON", fakellm.Garbage(), true, router.Failed},
		{"a page", fakellm.Garbage(), false, router.Failed},
		{"an answer that is not done", fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"model":"x","done":false}`)), false, router.Failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			bad, good := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
			bad.Always(test.answer)
			s.up("bad", upstream.Ollama, nil, bad.URL())
			s.up("good", upstream.OpenAI, nil, good.URL())
			s.serve("m bad/x | good/y")
			got := s.post("/v1/chat/completions", `{"model":"m","stream":`+map[bool]string{true: "true", false: "false"}[test.stream]+`,"messages":[{"role":"user","content":"x"}]}`)
			rec := s.record()
			if got.status != http.StatusOK || len(rec.Attempts) < 2 || rec.Attempts[0].Verdict != test.want {
				t.Errorf("status %d, %d attempts, the first %+v", got.status, len(rec.Attempts), rec.Attempts[0])
			}
		})
	}
}

// After the first content, a line with an error is an error in the client's format, and a missing end is one as well.
func TestOllamaBreaksOff(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]fakellm.Answer{
		"unexpected EOF":         fakellm.Text("a", "b").ErrorEventAfter(1),
		"answer is not complete": fakellm.Text("a", "b").CutAfter(1),
		"is not complete":        fakellm.Text("a", "b").DropAfter(1),
	} {
		s, fake := one(t, "ollama", nil)
		fake.Always(answer)
		s.serve("m u/x")
		got := s.post("/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`)
		if !strings.Contains(got.body, `"content":"a"`) || !strings.Contains(got.body, `data: {"error":{"message":`) || !strings.Contains(got.body, name) || strings.Contains(got.body, "[DONE]") {
			t.Errorf("%s: %s", name, got.body)
		}
		if rec := s.record(); rec.Verdict != router.Failed {
			t.Errorf("%s: %s", name, rec.Verdict)
		}
	}
}

// A model that refuses to think is asked again without, if the client is one of Anthropic's API, which asks every model. It is not asked
// to think again.
func TestOllamaThatDoesNotThink(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "ollama", nil)
	fake.Next(fakellm.Raw(http.StatusBadRequest, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":"registry.ollama.ai/library/x:latest does not support thinking"}`)))
	s.serve("m u/x")
	for range 2 {
		got := s.post("/v1/messages", `{"model":"m","max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":8192},"messages":[{"role":"user","content":"x"}]}`)
		if got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	var thinks []bool
	for _, r := range fake.Requests() {
		var body map[string]any
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		thinks = append(thinks, body["think"] != nil)
	}
	if diff := cmp.Diff([]bool{true, false, false}, thinks); diff != "" {
		t.Error(diff)
	}
}
