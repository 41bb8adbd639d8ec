package gateway

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// routerMode is a gateway in front of a llama.cpp in router mode, whose memory has space for one of its models, x and y. With a fallback, an
// API answers for them, too.
func (s *setup) routerMode(fallback bool) (local, remote *fakellm.Server) {
	local, box := s.fake("llamacpp", fakellm.Router(1), fakellm.Models("x", "y"))
	remote, api := s.fake("openai")
	s.up("box", upstream.LlamaCpp, func(c *upstream.Config) { c.Queue.Size = 20 }, box)
	s.up("api", upstream.OpenAI, nil, api)
	for _, name := range []string{"x", "y"} {
		m := router.Model{Name: name, Pools: []router.PoolConfig{{Targets: []string{"box"}, Policy: router.First}}}
		if fallback {
			m.Pools = append(m.Pools, router.PoolConfig{Targets: []string{"api/z"}, Policy: router.First})
		}
		s.models = append(s.models, m)
	}
	s.serve()
	return local, remote
}

// Requests for two models that wait for a server with memory for one of them are served one model after the other.
func TestModelsDoNotThrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // where the turn of a model does not end because the machine is slow
		s := &setup{t: t, bubble: new(bubble)}
		local, _ := s.routerMode(false)
		for _, model := range []string{"y", "x"} { // each loads its model, so that the gateway knows that only one is there
			if got := s.post("/v1/chat/completions", chat(model, true)); got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
		}
		queue := s.upstreams[0].Replicas[0].Queue()
		until(t, func() bool { return queue.KeepsOthers("y") })
		release := make(chan struct{})
		local.Next(fakellm.Text("slow").Hold(release))
		var all sync.WaitGroup
		ask := func(model string) {
			all.Go(func() {
				if got := s.post("/v1/chat/completions", chat(model, true)); got.status != http.StatusOK {
					t.Errorf("status %d: %s", got.status, got.body)
				}
			})
		}
		ask("x")
		until(t, func() bool { return queue.InFlight() == 1 })
		for i := range 12 {
			ask([]string{"y", "x"}[i%2])
			until(t, func() bool { return queue.Waiting() == i+1 })
		}
		close(release)
		all.Wait()
		if n := len(local.Loads()); n != 3 { // y, x, and y
			t.Errorf("%d loads: %v", n, local.Loads())
		}
	})
}

// While a llama.cpp in router mode loads a model, requests for it are answered by the fallback; one load runs, and afterwards they are
// answered by the model. While its turn lasts, requests for the other model are answered by the fallback, which does not load it.
func TestColdStartOfLlamaCppIsMasked(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	local, remote := s.routerMode(true)
	local.SetLoading(true)
	ask := func(model, target string) {
		t.Helper()
		got := s.post("/v1/chat/completions", chat(model, true))
		if got.header.Get("X-Llm-Target") != target {
			t.Fatalf("%s: status %d from %q: %s", model, got.status, got.header.Get("X-Llm-Target"), got.body)
		}
		if route := got.header.Get("X-Llm-Route"); target == "api/z" && route != "fallback:unreachable" {
			t.Errorf("the route is %q", route)
		}
	}
	for range 3 {
		ask("x", "api/z")
	}
	local.SetLoading(false)
	until(t, func() bool {
		done, _ := s.upstreams[0].Load(s.upstreams[0].Replicas[0], "x", false)
		return done == nil
	})
	ask("x", "box/x")
	queue := s.upstreams[0].Replicas[0].Queue()
	until(t, func() bool { return queue.KeepsOthers("y") })
	queue.Loaded("x", time.Minute) // so that its turn does not end during this test
	ask("y", "api/z")
	ask("x", "box/x")
	if loads := local.Loads(); len(loads) != 1 || loads[0] != "x" {
		t.Errorf("loads: %v", loads)
	}
	if n := len(remote.Requests()); n != 4 {
		t.Errorf("the fallback answered %d requests", n)
	}
}

// A llama.cpp that has never answered counts as hung, not as loading its model: that is a failure, which opens the circuit breaker.
func TestHungLlamaCppIsNotLoading(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0") // connections are accepted, and never answered
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.Close() })
	s := &setup{t: t}
	s.up("box", upstream.LlamaCpp, func(c *upstream.Config) { c.Timers.FirstToken = 100 * time.Millisecond }, "http://"+hung.Addr().String())
	s.up("api", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.models = append(s.models, router.Model{Name: "m", Pools: []router.PoolConfig{
		{Targets: []string{"box/x"}, Policy: router.First}, {Targets: []string{"api/y"}, Policy: router.First},
	}})
	s.serve()
	got := s.post("/v1/chat/completions", chat("m", true))
	if route := got.header.Get("X-Llm-Route"); got.status != http.StatusOK || route != "fallback:timeout" {
		t.Errorf("status %d by the route %q: %s", got.status, route, got.body)
	}
}
