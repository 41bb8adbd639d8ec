package gateway

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A house has one upstream inside and one outside, in a bubble.
func house(t *testing.T, inside fakellm.Answer) (s *setup, near, far *fakellm.Server) {
	s = &setup{t: t, bubble: new(bubble)}
	near, address := s.bubble.fake(t, "ollama", fakellm.Models("x"))
	near.Always(inside)
	s.up("near", upstream.Ollama, nil, address)
	far, address = s.bubble.fake(t, "openai", fakellm.Models("x", "y"))
	s.up("far", upstream.OpenAI, nil, address)
	s.config.Discover = true
	s.config.Affinity = NewAffinity()
	s.config.LocalOnly = func(r *http.Request, _ *exchange.Record) bool { return r.Header.Get("X-Privacy") == "local" }
	to := func(targets ...string) router.PoolConfig {
		return router.PoolConfig{Targets: targets, Policy: router.LeastBusy}
	}
	s.models = []router.Model{
		{Name: "equals", Pools: []router.PoolConfig{to("far/y", "near/x")}},
		{Name: "fallback", Pools: []router.PoolConfig{to("near/x"), to("far/y")}},
		{Name: "away", Pools: []router.PoolConfig{to("far/y"), to("near/x")}},
		{Name: "outside", Pools: []router.PoolConfig{to("far/y")}},
		{Name: "kept", LocalOnly: true, Pools: []router.PoolConfig{to("far/y"), to("near/x"), to("far/y")}},
		{Name: "auto", Routes: []router.RouteConfig{{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"away"}}, {Targets: []string{"fallback"}}}},
		{Name: "kept-auto", LocalOnly: true, Routes: []router.RouteConfig{{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"away"}}, {Targets: []string{"fallback"}}}},
		{Name: "*", Pools: []router.PoolConfig{to("far", "near")}},
	}
	return s, near, far
}

// No byte of a prompt that must stay leaves, whatever fails: the property that local_only promises.
func TestNothingLeaves(t *testing.T) {
	for name, answer := range map[string]fakellm.Answer{
		"answers": fakellm.Text("Hello"), "busy": fakellm.Busy(), "unauthorized": fakellm.Unauthorized(), "unknown model": fakellm.UnknownModel(),
		"too long": fakellm.TooLong(), "no tools": fakellm.NoTools(), "internal error": fakellm.InternalError(), "bad request": fakellm.Status(400),
		"error event": fakellm.Text("a").ErrorEventAfter(0), "cut": fakellm.Text("a").CutAfter(0), "cut later": fakellm.Text("a", "b").CutAfter(1),
		"dropped": fakellm.Text("a").DropAfter(0), "reset": fakellm.Text("a").ResetAfter(0), "garbage": fakellm.Garbage(), "silence": fakellm.Text("a").StallAfter(0),
		"stall later": fakellm.Text("a", "b").StallAfter(1), "a redirect": fakellm.Status(307, "Location", "http://far.example/"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { nothingLeaves(t, answer) })
		})
	}
}

func nothingLeaves(t *testing.T, answer fakellm.Answer) {
	s, _, far := house(t, answer)
	s.serve()
	for _, model := range []string{"equals", "fallback", "away", "outside", "kept", "auto", "kept-auto", "x", "anything"} {
		for _, stream := range []bool{false, true} {
			header := []string{"X-Privacy", "local", "X-Session-Id", "s"}
			if strings.HasPrefix(model, "kept") {
				header = header[2:]
			}
			s.post("/v1/chat/completions", chat(model, stream), header...)
			s.post("/v1/chat/completions", chat(model, stream), append(header, "X-Hard", "1")...)
		}
	}
	if n := len(far.Requests()); n > 0 {
		t.Errorf("%d requests left: %s", n, far.Requests()[0].Body)
	}
	s.post("/v1/chat/completions", chat("outside", false))
	if n := len(far.Requests()); n != 1 {
		t.Errorf("%d requests of a client that may leave were made: the test sees nothing", n)
	}
}

func TestWhatMustStaySaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, near, far := house(t, fakellm.Text("Hello"))
		s.serve()
		got := s.post("/v1/chat/completions", chat("outside", false), "X-Privacy", "local")
		if got.status != http.StatusForbidden || !strings.Contains(got.body, `"code":"model_not_allowed"`) || !strings.Contains(got.body, "must stay on local upstreams") {
			t.Errorf("status %d, body %s", got.status, got.body)
		}
		got = s.post("/v1/chat/completions", chat("away", false), "X-Privacy", "local")
		if got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "near/x" {
			t.Errorf("status %d, target %q", got.status, got.header.Get("X-Llm-Target"))
		}
		near.Always(fakellm.Busy())
		got = s.post("/v1/chat/completions", chat("fallback", true), "X-Privacy", "local")
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "must stay on local upstreams") {
			t.Errorf("status %d, body %s", got.status, got.body)
		}
		if got = s.post("/v1/chat/completions", chat("kept", true)); !strings.Contains(got.body, "must stay on local upstreams") {
			t.Errorf("status %d, body %s", got.status, got.body)
		}
		if n := len(far.Requests()); n > 0 {
			t.Errorf("%d requests left", n)
		}
	})
}

// A conversation that was outside does not take a request there that its rule keeps inside.
func TestPinsDoNotLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _, far := house(t, fakellm.Text("Hello"))
		s.models[0] = router.Model{Name: "inside", Pools: []router.PoolConfig{{Targets: []string{"near/x"}}}}
		s.models = append(s.models, router.Model{Name: "pick", Routes: []router.RouteConfig{{Name: "@hard", Matcher: onHeader("X-Hard"), Targets: []string{"outside"}}, {Targets: []string{"inside"}}}})
		s.serve()
		s.post("/v1/chat/completions", chat("pick", false), "X-Session-Id", "s", "X-Hard", "1")
		got := s.post("/v1/chat/completions", chat("pick", false), "X-Session-Id", "s")
		if n := len(far.Requests()); n != 1 || got.header.Get("X-Llm-Route") != "pick" {
			t.Errorf("%d requests left, route %q", n, got.header.Get("X-Llm-Route"))
		}
	})
}

// An upstream whose kind nobody knows yet is outside; once it is known to be Ollama it is not.
func TestUnknownKindIsOutside(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "ollama")
	s := &setup{t: t}
	s.up("u", upstream.Auto, nil, fake.URL())
	s.config.LocalOnly = func(*http.Request, *exchange.Record) bool { return true }
	s.serve("m u/x")
	if got := s.post("/v1/chat/completions", chat("m", false)); got.status != http.StatusForbidden || len(fake.Requests()) > 0 {
		t.Errorf("status %d, %d requests", got.status, len(fake.Requests()))
	}
	s.upstreams[0].Discover(t.Context())
	if got := s.post("/v1/chat/completions", chat("m", false)); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// Without any configuration, too.
func TestAutoStays(t *testing.T) {
	t.Parallel()
	far := fakellm.Start(t, "openai", fakellm.Models("x"))
	s := &setup{t: t}
	s.up("far", upstream.OpenAI, nil, far.URL())
	s.up("echo", upstream.Echo, nil)
	s.config.Auto, s.config.Discover = true, true
	s.config.LocalOnly = func(*http.Request, *exchange.Record) bool { return true }
	s.serve()
	got := s.post("/v1/chat/completions", chat("auto", false))
	if !strings.HasPrefix(got.header.Get("X-Llm-Target"), "echo/") || len(far.Requests()) > 0 {
		t.Errorf("target %q, %d requests left", got.header.Get("X-Llm-Target"), len(far.Requests()))
	}
}
