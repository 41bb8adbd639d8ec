package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// hasLoaded makes an Ollama say which models it has loaded.
func hasLoaded(fake *fakellm.Server, models ...string) {
	var entries []string
	for _, m := range models {
		entries = append(entries, `{"name":"`+m+`","model":"`+m+`"}`)
	}
	fake.OnPath("/api/ps", fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"models":[`+strings.Join(entries, ",")+`]}`)))
}

// pair is a gateway in front of two Ollamas with one slot each: the first has model a loaded, the second model b. The gateway knows that.
func pair(t *testing.T, places int) (s *setup, first, second *fakellm.Server) {
	t.Helper()
	s = &setup{t: t}
	first, second = fakellm.Start(t, "ollama"), fakellm.Start(t, "ollama")
	hasLoaded(first, "a:latest")
	hasLoaded(second, "b:latest")
	s.up("gpu", upstream.Ollama, func(c *upstream.Config) { c.Queue.Size = places }, first.URL(), second.URL())
	for _, name := range []string{"a", "b"} {
		s.models = append(s.models, router.Model{Name: name, Pools: []router.PoolConfig{{Targets: []string{"gpu"}, Policy: router.LeastBusy}}})
	}
	s.serve()
	for _, r := range s.upstreams[0].Replicas { // a request waits for that only for a moment
		until(t, func() bool { _, known := s.upstreams[0].InMemory(r); return known })
	}
	return s, first, second
}

// Each model is asked for where it is in memory.
func TestResidentModelsFirst(t *testing.T) {
	t.Parallel()
	s, first, second := pair(t, 4)
	for range 10 {
		for _, model := range []string{"a", "b"} {
			if got := s.post("/v1/chat/completions", chat(model, true)); got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
		}
	}
	for name, fake := range map[string]*fakellm.Server{"a": first, "b": second} {
		for _, r := range fake.Requests() {
			if !strings.Contains(string(r.Body), `"model":"`+name+`"`) {
				t.Errorf("the server with %s got %s", name, r.Body)
			}
		}
	}
}

// A request waits for a slot where its model is rather than have another server unload a model that is in use. If the other server has
// nothing to do, or no more request may wait, it loads the model, too.
func TestModelsInUseAreNotUnloaded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		inUse  bool
		places int
		waits  bool
	}{{"in use", true, 4, true}, {"in use, and nobody may wait", true, 0, false}, {"not in use", false, 4, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, first, second := pair(t, test.places)
			if test.inUse {
				s.post("/v1/chat/completions", chat("b", true))
			}
			before := len(second.Requests())
			release := make(chan struct{})
			first.Next(fakellm.Text("slow").Hold(release))
			answers := make(chan reply, 2)
			ask := func() { answers <- s.post("/v1/chat/completions", chat("a", true)) }
			go ask()
			first.Wait(t, 1)
			go ask()
			if test.waits {
				until(t, func() bool { return s.upstreams[0].Replicas[0].Waiting() == 1 })
				if n := s.upstreams[0].Replicas[1].Waiting(); n != 0 {
					t.Errorf("%d requests wait for the server that uses another model", n)
				}
			} else {
				second.Wait(t, before+1)
			}
			close(release)
			for range 2 {
				if got := <-answers; got.status != http.StatusOK {
					t.Errorf("status %d: %s", got.status, got.body)
				}
			}
			if got := len(second.Requests()) - before; (got == 0) != test.waits {
				t.Errorf("the other server got %d requests", got)
			}
		})
	}
}

// While a model is loading, requests for it are answered by the fallback; one load runs, and afterwards they are answered by the model. A
// request that must stay local waits.
func TestColdStartIsMasked(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	first, second, remote := fakellm.Start(t, "ollama"), fakellm.Start(t, "ollama"), fakellm.Start(t, "openai")
	s.up("gpu", upstream.Ollama, nil, first.URL(), second.URL())
	s.up("api", upstream.OpenAI, nil, remote.URL())
	s.models = []router.Model{
		{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"gpu/tiny"}, Policy: router.First}, {Targets: []string{"api/y"}, Policy: router.First}}},
		{Name: "private", LocalOnly: true, Pools: []router.PoolConfig{{Targets: []string{"gpu/tiny"}, Policy: router.First}, {Targets: []string{"api/y"}, Policy: router.First}}},
	}
	s.serve()
	first.SetLoading(true)
	hasLoaded(second)
	for range 3 {
		if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "api/y" || got.header.Get("X-Llm-Route") != "fallback:unreachable" {
			t.Fatalf("status %d from %q, route %q", got.status, got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
		}
	}
	if here, there := loads(first), loads(second); here != 1 || there != 0 {
		t.Errorf("the model was loaded %d times, and %d times at the other replica", here, there)
	}
	private := make(chan reply, 1)
	go func() { private <- s.post("/v1/chat/completions", chat("private", true)) }()
	until(t, func() bool { return s.upstreams[0].Replicas[0].InFlight() == 1 })
	first.SetLoading(false)
	if got := <-private; got.header.Get("X-Llm-Target") != "gpu/tiny" {
		t.Errorf("the private request: status %d from %q", got.status, got.header.Get("X-Llm-Target"))
	}
	if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "gpu/tiny" {
		t.Errorf("once it was loaded, %q answered", got.header.Get("X-Llm-Target"))
	}
	if n := len(remote.Requests()); n != 3 {
		t.Errorf("the fallback answered %d requests", n)
	}
}
