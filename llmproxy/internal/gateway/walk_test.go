package gateway

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A lone target that failed in a way that may pass is asked again, and the client never learns of it.
func TestLoneTargetIsAskedAgain(t *testing.T) {
	for name, answer := range map[string]fakellm.Answer{"broken": fakellm.InternalError(), "busy": fakellm.Busy().With("Retry-After-Ms", "20")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			fake.Next(answer)
			s.serve("m u/x")
			if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK || got.header.Get("X-Llm-Attempts") != "2" {
				t.Errorf("status %d, attempts %q", got.status, got.header.Get("X-Llm-Attempts"))
			}
		})
	}
}

// The client gets the most informative failure, with all targets that were tried.
func TestMostTellingErrorIsTold(t *testing.T) {
	t.Parallel()
	busy, wrong := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	busy.Always(fakellm.RateLimited().With("Retry-After", "30"))
	wrong.Always(fakellm.Unauthorized())
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, busy.URL())
	s.up("b", upstream.OpenAI, nil, wrong.URL())
	s.serve("m a/x | b/y")
	got := s.post("/v1/chat/completions", chat("m", false))
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "30" {
		t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
	}
	if diff := cmp.Diff("2; a/x overloaded, b/y misconfigured", got.header.Get("X-Llm-Attempts")); diff != "" {
		t.Error(diff)
	}
}

// A request for more output than fits is sent once more, with what fits, and nothing else of it changes.
func TestTooMuchOutputIsClamped(t *testing.T) {
	for _, test := range []struct{ name, send, want string }{
		{"max_tokens", `{"model":"m","max_tokens":100000,"messages":[]}`, `{"model":"x","max_tokens":4096,"messages":[]}`},
		{"max_completion_tokens", `{"messages":[],"max_completion_tokens":100000,"model":"m"}`, `{"messages":[],"max_completion_tokens":4096,"model":"x"}`},
		{"none, so that the server's default was too much", `{"model":"m","messages":[]}`, `{"model":"x","messages":[],"max_tokens":4096}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "vllm", nil)
			fake.Next(fakellm.OutputTooLong())
			s.serve("m u/x")
			got := s.post("/v1/chat/completions", test.send)
			requests := fake.Requests()
			if got.status != http.StatusOK || len(requests) != 2 {
				t.Fatalf("status %d after %d requests: %s", got.status, len(requests), got.body)
			}
			if diff := cmp.Diff(test.want, string(requests[1].Body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A server that refuses the clamped request, too, is not asked a third time, and its words reach the client.
func TestClampingIsTriedOnce(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "vllm", nil)
	fake.Always(fakellm.OutputTooLong())
	s.serve("m u/x")
	got := s.post("/v1/chat/completions", chat("m", false))
	if got.status != http.StatusBadRequest || !strings.Contains(got.body, "max_tokens=100000 cannot be") || len(fake.Requests()) != 2 {
		t.Errorf("status %d after %d requests: %s", got.status, len(fake.Requests()), got.body)
	}
}

// The deadline is over the whole request: attempts and waits together.
func TestDeadlineEndsTheRequest(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		status int
		after  time.Duration
	}{
		{"in an attempt", fakellm.Text("a").StallAfter(0), http.StatusGatewayTimeout, 3 * time.Second},
		{"before a wait", fakellm.RateLimited().With("Retry-After", "4"), http.StatusTooManyRequests, 0},
		{"in the second attempt", fakellm.RateLimited().With("Retry-After", "2"), http.StatusTooManyRequests, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &setup{t: t, bubble: new(bubble)}
				fake, address := s.bubble.fake(t, "openai")
				fake.Always(test.answer)
				s.up("u", upstream.OpenAI, nil, address)
				s.config.Deadline = 3 * time.Second
				s.serve("m u/x")
				begun := time.Now()
				got := s.post("/v1/chat/completions", chat("m", true))
				if took := time.Since(begun); got.status != test.status || took != test.after {
					t.Errorf("status %d after %s, want %d after %s: %s", got.status, took, test.status, test.after, got.body)
				}
				if f := s.upstreams[0].Replicas[0].Status(); f.Failures != 0 {
					t.Errorf("it is held against the upstream, by %d strikes", f.Failures)
				}
			})
		})
	}
}
