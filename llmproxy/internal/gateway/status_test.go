package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A key sees its own requests that wait, their places and what a new one would find, and nothing of other keys.
func TestQueueStatus(t *testing.T) {
	t.Parallel()
	s, release := &setup{t: t}, make(chan struct{})
	local := fakellm.Start(t, "openai")
	local.Next(fakellm.Text("slow").Hold(release))
	s.up("gpu", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent, c.Queue = 1, admission.Config{Size: 8} }, local.URL())
	gpu := s.upstreams[0]
	s.up("same", upstream.OpenAI, func(c *upstream.Config) { c.Replica = func(string) *replica.Replica { return gpu.Replicas[0] } }, local.URL())
	s.guarded(&keys.Entry{Name: "alice"}, &keys.Entry{Name: "bob", Models: []string{"m"}})
	s.serve("m gpu/x", "other gpu/y")
	status := func(key string) statusAnswer {
		t.Helper()
		got := s.get(StatusPath, "secret-"+key)
		var answer statusAnswer
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
		for i := range answer.Requests {
			answer.Requests[i].Waited = 0
		}
		return answer
	}
	zero := 0.0
	free := statusAnswer{Object: "llm.status", Key: "bob", Requests: []waitingStatus{}, Models: []modelStatus{{ID: "m", Wait: &zero}}}
	if diff := cmp.Diff(free, status("bob")); diff != "" {
		t.Error(diff)
	}
	answers := make(chan reply, 4)
	for i, ask := range []struct{ key, model string }{{"bob", "m"}, {"bob", "m"}, {"alice", "m"}, {"alice", "other"}} {
		go func() {
			answers <- s.post("/v1/chat/completions", chat(ask.model, true), "Authorization", "Bearer secret-"+ask.key, "X-Request-Id", "id-"+ask.key+"-"+ask.model)
		}()
		until(t, func() bool { return len(local.Requests()) == 1 && s.upstreams[0].Replicas[0].Waiting() == i })
	}
	want := statusAnswer{
		Object: "llm.status", Key: "alice", Requests: []waitingStatus{{ID: "id-alice-m", Model: "m", Position: 1}, {ID: "id-alice-other", Model: "other", Position: 2}},
		Models: []modelStatus{{ID: "m", Position: 4}, {ID: "other", Position: 4}},
	}
	if diff := cmp.Diff(want, status("alice")); diff != "" {
		t.Error(diff)
	}
	if got := s.get(StatusPath, "wrong"); got.status != http.StatusUnauthorized {
		t.Errorf("without a valid key: status %d: %s", got.status, got.body)
	}
	if got := s.post(StatusPath, "{}", "Authorization", "Bearer secret-bob"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d: %s", got.status, got.body)
	}
	close(release)
	for range 4 {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
}

// The client of a stream that asks for it is told its place in the queue, by comments that others skip.
func TestQueueComments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path, body, header string
		want                     string
	}{
		{"a stream that asks for it", "/v1/chat/completions", chat("m", true), "comments", ": queued position=1\n\ndata: {"},
		{"Anthropic's API", "/v1/messages", `{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`, "comments", ": queued position=1\n\nevent: message_start\n"},
		{"a stream that does not", "/v1/chat/completions", chat("m", true), "", "data: {"},
		{"another value", "/v1/chat/completions", chat("m", true), "yes", "data: {"},
		{"a whole answer", "/v1/chat/completions", chat("m", false), "comments", "{"},
		{"Ollama's API", "/api/chat", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, "comments", "{"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, _, _, release, _ := occupied(t, admission.Config{Size: 2}, "m gpu/x")
			answer := make(chan reply, 1)
			go func() { answer <- s.post(test.path, test.body, "X-LLM-Queue", test.header) }()
			until(t, func() bool { return s.upstreams[0].Replicas[0].Waiting() == 1 })
			close(release)
			if got := <-answer; got.status != http.StatusOK || !strings.HasPrefix(got.body, test.want) {
				t.Errorf("status %d: %s", got.status, got.body)
			}
		})
	}
}
