package gateway

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// loads counts the requests that load a model.
func loads(s *fakellm.Server) (n int) {
	for _, p := range s.Probes() {
		if p.Path == "/api/generate" {
			n++
		}
	}
	return n
}

// Ollama gives up loading when the one who asked leaves. The load is the gateway's own, so that it goes on, once for all.
func TestLoadOutlivesTheClient(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "ollama", nil)
	s.serve("m u/tiny")
	fake.SetLoading(true)
	leave := s.start(chat("m", true))
	until(t, func() bool { return loads(fake) == 1 })
	if leave() == nil {
		t.Fatal("who left got an answer")
	}
	replica := s.upstreams[0].Replicas[0]
	until(t, func() bool { return replica.InFlight() == 0 })
	second := make(chan reply, 1)
	go func() { second <- s.post("/v1/chat/completions", chat("m", true)) }()
	until(t, func() bool { return replica.InFlight() == 1 })
	for _, p := range fake.Probes() {
		if p.Canceled() {
			t.Error("the load ended with its client")
		}
	}
	fake.SetLoading(false)
	if got := <-second; got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK || loads(fake) != 1 {
		t.Errorf("status %d after %d loads", got.status, loads(fake))
	}
}

// A model that takes too long to load is answered by another target, without a strike, and the load goes on.
func TestLoadingIsNotDead(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	local, remote := fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	s.up("gpu", upstream.Ollama, func(c *upstream.Config) { c.Timers.FirstToken = 50 * time.Millisecond }, local.URL())
	s.up("api", upstream.OpenAI, nil, remote.URL())
	s.serve("m gpu/tiny | api/y")
	local.SetLoading(true)
	for range 4 {
		if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Route") != "fallback:unreachable" {
			t.Fatalf("status %d, route %q", got.status, got.header.Get("X-Llm-Route"))
		}
	}
	if f := s.upstreams[0].Replicas[0].Status(); f.State != replica.Up || f.Failures != 0 {
		t.Errorf("it is %s with %d strikes", f.State, f.Failures)
	}
	local.SetLoading(false)
	until(t, func() bool {
		got := s.post("/v1/chat/completions", chat("m", true))
		return got.header.Get("X-Llm-Target") == "gpu/tiny"
	})
	if n := loads(local); n != 1 {
		t.Errorf("%d loads were begun", n)
	}
}

// A lone llama.cpp that is loading is waited for, by probes.
func TestLoneLoadingServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "llamacpp", nil)
	s.serve("m u/x")
	fake.SetLoading(true)
	answer := make(chan reply, 1)
	go func() { answer <- s.post("/v1/chat/completions", chat("m", true)) }()
	until(t, func() bool {
		for _, p := range fake.Probes() {
			if p.Path == "/health" {
				return true
			}
		}
		return false
	})
	fake.SetLoading(false)
	if got := <-answer; got.status != http.StatusOK || got.header.Get("X-Llm-Attempts") != "2" {
		t.Errorf("status %d, attempts %q: %s", got.status, got.header.Get("X-Llm-Attempts"), got.body)
	}
}
