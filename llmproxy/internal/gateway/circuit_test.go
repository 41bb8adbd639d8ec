package gateway

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A server that went down is asked again by probes alone, and gets requests again once it is up.
func TestDownIsProbedUntilItIsUp(t *testing.T) {
	for _, kind := range []string{"ollama", "vllm", "llamacpp"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, local := one(t, kind, nil)
			remote := fakellm.Start(t, "openai")
			s.up("api", upstream.OpenAI, nil, remote.URL())
			changes := make(chan delivery.Change, 8)
			s.config.Changed = func(c delivery.Change) { changes <- c }
			s.serve("m u/x | api/y")
			local.Down()
			for range 3 {
				if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "api/y" {
					t.Fatalf("status %d from %q", got.status, got.header.Get("X-Llm-Target"))
				}
			}
			local.Up(t)
			if c := <-changes; c.Healthy || c.State != replica.Down || c.Upstream != "u" {
				t.Errorf("the first change is %+v", c)
			}
			if c := <-changes; !c.Healthy || c.State != replica.Up {
				t.Errorf("the second change is %+v", c)
			}
			if n := len(local.Requests()); n != 0 {
				t.Errorf("%d requests generated where a probe would have done", n)
			}
			if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "u/x" {
				t.Errorf("it is up, and %q answers", got.header.Get("X-Llm-Target"))
			}
		})
	}
}

// A server that failed three times in a row gets no requests while another one answers; a lone one always does.
func TestOpenCircuit(t *testing.T) {
	t.Parallel()
	sick, well := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	sick.Always(fakellm.Text("a").CutAfter(0))
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, sick.URL())
	s.up("b", upstream.OpenAI, nil, well.URL())
	s.serve("m a/x | b/y", "lone a/x")
	for range 6 {
		if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	if n := len(sick.Requests()); n != 3 {
		t.Errorf("the sick one got %d requests, want 3", n)
	}
	sick.Always(fakellm.Text("well again"))
	if got := s.post("/v1/chat/completions", chat("lone", true)); got.status != http.StatusOK {
		t.Errorf("the lone one is shut out: status %d", got.status)
	}
	if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "a/x" {
		t.Errorf("an answer did not close the circuit: %q answers", got.header.Get("X-Llm-Target"))
	}
}

// A failure because of a model's name or a key hides that model at that upstream, is logged once, and hides nothing else.
func TestConfigHidesTheModel(t *testing.T) {
	t.Parallel()
	local, remote := fakellm.Start(t, "vllm", fakellm.Models("there")), fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.up("a", upstream.VLLM, nil, local.URL())
	s.up("b", upstream.OpenAI, nil, remote.URL())
	var mu sync.Mutex
	var hidden []string
	s.config.Changed = func(c delivery.Change) {
		mu.Lock()
		defer mu.Unlock()
		hidden = append(hidden, c.HiddenModel)
	}
	s.serve("m a/missing | b/y", "other a/there")
	for range 3 {
		if got := s.post("/v1/chat/completions", chat("m", false)); got.header.Get("X-Llm-Target") != "b/y" || got.header.Get("X-Llm-Route") != "fallback:misconfigured" {
			t.Fatalf("%q answers, route %q", got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
		}
	}
	if n := len(local.Requests()); n != 1 {
		t.Errorf("it was asked %d times for a model that it does not have", n)
	}
	if got := s.post("/v1/chat/completions", chat("other", false)); got.status != http.StatusOK {
		t.Errorf("another model: status %d", got.status)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"missing"}, hidden); diff != "" {
		t.Error(diff)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s, local := one(t, "llamacpp", nil)
	s.serve("m u/x")
	served := func() []catalog.ModelStatus { return s.gateway.Status(t.Context()).Models }
	if diff := cmp.Diff([]catalog.ModelStatus{{Name: "m", Served: true}}, served()); diff != "" {
		t.Error(diff)
	}
	local.SetLoading(true)
	until(t, func() bool { return !s.gateway.Status(t.Context()).Served() })
	if got := s.gateway.Status(t.Context()).Upstreams[0].Replicas[0].State; got != replica.Loading {
		t.Errorf("it is %s, want loading", got)
	}
	local.SetLoading(false)
	until(t, func() bool { return s.gateway.Status(t.Context()).Served() })
	if n := len(local.Requests()); n != 0 {
		t.Errorf("%d requests generated", n)
	}
}
