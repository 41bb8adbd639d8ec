package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// occupied is a gateway whose local upstream has one slot, which is taken until release is closed.
func occupied(t *testing.T, queue admission.Config, models ...string) (s *setup, local, remote *fakellm.Server, release chan struct{}, first <-chan reply) {
	t.Helper()
	release = make(chan struct{})
	local, remote = fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	local.Next(fakellm.Text("slow").Hold(release))
	remote.Always(fakellm.Text("remote"))
	s = &setup{t: t}
	s.up("gpu", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent, c.Queue = 1, queue }, local.URL())
	s.up("api", upstream.OpenAI, nil, remote.URL())
	s.serve(models...)
	answered := make(chan reply, 1)
	go func() { answered <- s.post("/v1/chat/completions", chat("m", true)) }()
	local.Wait(t, 1)
	return s, local, remote, release, answered
}

func TestWaitsForASlot(t *testing.T) {
	t.Parallel()
	s, local, _, release, first := occupied(t, admission.Config{Size: 1}, "m gpu/x")
	second := make(chan reply, 1)
	go func() { second <- s.post("/v1/chat/completions", chat("m", true)) }()
	replica := s.upstreams[0].Replicas[0]
	until(t, func() bool { return replica.Waiting() == 1 })
	if n := len(local.Requests()); n != 1 {
		t.Fatalf("the upstream has seen %d requests, and has one slot", n)
	}
	close(release)
	if got := <-first; got.status != http.StatusOK || got.header.Get("X-Llm-Queue-Ms") != "" {
		t.Errorf("the first: status %d, waited %q ms", got.status, got.header.Get("X-Llm-Queue-Ms"))
	}
	if got := <-second; got.status != http.StatusOK || got.header.Get("X-Llm-Queue-Ms") == "" {
		t.Errorf("the second: status %d, waited %q ms", got.status, got.header.Get("X-Llm-Queue-Ms"))
	}
	if n := local.MaxInFlight(); n != 1 {
		t.Errorf("%d requests were at the upstream at once", n)
	}
	if rec := s.record(); rec.Queue <= 0 || replica.InFlight() != 0 || replica.Waiting() != 0 {
		t.Errorf("waited %s; %d open and %d waiting are left", rec.Queue, replica.InFlight(), replica.Waiting())
	}
}

func TestFullQueueSpills(t *testing.T) {
	for name, room := range map[string]admission.Config{"no place": {}, "waited too long": {Size: 1, MaxWait: 20 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, remote, release, _ := occupied(t, room, "m gpu/x | api/y")
			got := s.post("/v1/chat/completions", chat("m", true))
			close(release)
			if got.status != http.StatusOK || !strings.Contains(got.body, "remote") || got.header.Get("X-Llm-Route") != "spill" || got.header.Get("X-Llm-Attempts") != "1" {
				t.Errorf("status %d, route %q, attempts %q: %s", got.status, got.header.Get("X-Llm-Route"), got.header.Get("X-Llm-Attempts"), got.body)
			}
			if n := len(remote.Requests()); n != 1 {
				t.Errorf("the second pool got %d requests", n)
			}
		})
	}
}

func TestFullQueueIsToldToComeBack(t *testing.T) {
	for name, room := range map[string]admission.Config{"no place": {}, "waited too long": {Size: 1, MaxWait: 20 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, local, _, release, _ := occupied(t, room, "m gpu/x")
			got := s.post("/v1/chat/completions", chat("m", true))
			close(release)
			if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" || !strings.Contains(got.body, `"code":"queue_full"`) {
				t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
			}
			if n := len(local.Requests()); n != 1 {
				t.Errorf("the upstream has seen %d requests", n)
			}
		})
	}
}

// A client that leaves the queue frees its position at once, and no upstream ever sees its request.
func TestLeavingTheQueue(t *testing.T) {
	t.Parallel()
	s, local, _, release, first := occupied(t, admission.Config{Size: 1}, "m gpu/x")
	replica := s.upstreams[0].Replicas[0]
	leave := s.start(chat("m", true))
	until(t, func() bool { return replica.Waiting() == 1 })
	if leave() == nil {
		t.Fatal("who left got an answer")
	}
	until(t, func() bool { return replica.Waiting() == 0 })
	close(release)
	<-first
	if n := len(local.Requests()); n != 1 {
		t.Errorf("the upstream has seen %d requests", n)
	}
	s.server.Close()
	var gones int
	for _, rec := range s.records {
		if rec.Verdict == router.ClientClosed && rec.Status == exchange.StatusClientClosed {
			gones++
		}
	}
	if gones != 1 {
		t.Errorf("%d requests are recorded as left", gones)
	}
}
