package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Every failure before the first content must be invisible: the second target's answer arrives, and the record has both attempts.
func TestFailsOverBeforeTheFirstContent(t *testing.T) {
	for _, test := range []struct {
		name    string
		answer  fakellm.Answer
		verdict router.Verdict
		only    string // "stream" or "whole", where the failure exists in one of them only
	}{
		{"busy", fakellm.Busy(), router.Overloaded, ""},
		{"rate limited", fakellm.RateLimited(), router.Overloaded, ""},
		{"unauthorized", fakellm.Unauthorized(), router.Misconfigured, ""},
		{"unknown model", fakellm.UnknownModel(), router.Misconfigured, ""},
		{"too long", fakellm.TooLong(), router.Unsupported, ""},
		{"internal error", fakellm.InternalError(), router.Failed, ""},
		{"error event first", fakellm.Text("a").ErrorEventAfter(0), router.Failed, "stream"},
		{"cut at once", fakellm.Text("a").CutAfter(0), router.Failed, "stream"},
		{"dropped at once", fakellm.Text("a").DropAfter(0), router.Failed, ""},
		{"reset at once", fakellm.Text("a").ResetAfter(0), router.Failed, ""},
		{"garbage", fakellm.Garbage(), router.Failed, ""},
		{"silence", fakellm.Text("a").StallAfter(0), router.Timeout, "stream"},
	} {
		for _, stream := range []bool{false, true} {
			if test.only == "stream" && !stream {
				continue
			}
			name := test.name + "/whole"
			if stream {
				name = test.name + "/stream"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				first, second := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
				first.Always(test.answer)
				second.Always(fakellm.Text("from", " the second"))
				s := &setup{t: t}
				s.up("a", upstream.OpenAI, func(c *upstream.Config) {
					if test.verdict == router.Timeout {
						c.Timers.FirstToken = 200 * time.Millisecond
					}
				}, first.URL())
				s.up("b", upstream.OpenAI, nil, second.URL())
				s.serve("m a/x | b/y")
				got := s.post("/v1/chat/completions", chat("m", stream))
				if got.status != http.StatusOK || got.err != nil || !strings.Contains(got.body, "the second") {
					t.Fatalf("status %d, error %v, body %s", got.status, got.err, got.body)
				}
				want := map[string]string{"X-Llm-Target": "b/y", "X-Llm-Attempts": "2", "X-Llm-Route": "fallback:" + test.verdict.String()}
				for name, value := range want {
					if got.header.Get(name) != value {
						t.Errorf("%s: %q, want %q", name, got.header.Get(name), value)
					}
				}
				rec := s.record()
				if len(rec.Attempts) != 2 || rec.Attempts[0].Verdict != test.verdict || rec.Attempts[1].Verdict != router.OK {
					t.Errorf("attempts: %+v", rec.Attempts)
				}
				for _, u := range s.upstreams {
					if open := u.Replicas[0].InFlight(); open != 0 {
						t.Errorf("%d requests are still counted at %s", open, u.Name)
					}
				}
			})
		}
	}
}

func TestRefusedUpstreamIsNotUp(t *testing.T) {
	t.Parallel()
	down, second := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	address := down.URL()
	down.Down()
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, address)
	s.up("b", upstream.OpenAI, nil, second.URL())
	s.serve("m a/x | b/y", "lone a/x")
	if got := s.post("/v1/chat/completions", chat("m", true)); got.status != 200 || got.header.Get("X-Llm-Route") != "fallback:unreachable" {
		t.Errorf("status %d, route %q", got.status, got.header.Get("X-Llm-Route"))
	}
	got := s.post("/v1/chat/completions", chat("lone", true))
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, `"code":"no_upstream_available"`) || got.header.Get("Retry-After") != "1" {
		t.Errorf("status %d, Retry-After %q, body %s", got.status, got.header.Get("Retry-After"), got.body)
	}
	if strings.Contains(got.body, strings.TrimPrefix(address, "http://")) {
		t.Errorf("the upstream's address reached the client: %s", got.body)
	}
}

// After the first content a failure is told once, as an error event, and never dressed up as an end.
func TestTellsFailuresAfterTheFirstContent(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		code   string
	}{
		{"cut", fakellm.Text("one", " two").CutAfter(1), "upstream_error"},
		{"dropped", fakellm.Text("one", " two").DropAfter(1), "upstream_error"},
		{"reset", fakellm.Text("one", " two").ResetAfter(1), "upstream_error"},
		{"silence", fakellm.Text("one", " two").StallAfter(1), "upstream_timeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first, second := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
			first.Always(test.answer)
			s := &setup{t: t}
			s.up("a", upstream.OpenAI, func(c *upstream.Config) {
				if test.code == "upstream_timeout" {
					c.Timers.Idle = 200 * time.Millisecond
				}
			}, first.URL())
			s.up("b", upstream.OpenAI, nil, second.URL())
			s.serve("m a/x | b/y")
			got := s.post("/v1/chat/completions", chat("m", true))
			if got.status != http.StatusOK || !strings.Contains(got.body, "one") {
				t.Fatalf("status %d, body %s", got.status, got.body)
			}
			events := strings.Split(strings.TrimSpace(got.body), "\n\n")
			last := events[len(events)-1]
			if !strings.HasPrefix(last, `data: {"error":{"message":"`) || !strings.Contains(last, `"code":"`+test.code+`"`) {
				t.Errorf("the last event is %s", last)
			}
			if strings.Contains(got.body, "[DONE]") {
				t.Error("a broken stream got a [DONE]")
			}
			if n := len(second.Requests()); n != 0 {
				t.Errorf("the second target got %d requests after the commit", n)
			}
		})
	}
}

func TestErrorEventAfterContentIsReshaped(t *testing.T) {
	t.Parallel()
	first := fakellm.Start(t, "vllm")
	first.Always(fakellm.Text("one", " two").ErrorEventAfter(1))
	s := &setup{t: t}
	s.up("a", upstream.VLLM, nil, first.URL())
	s.serve("m a/x")
	got := s.post("/v1/chat/completions", chat("m", true))
	if strings.Count(got.body, `{"error":`) != 1 || strings.Contains(got.body, "[DONE]") {
		t.Errorf("body: %s", got.body)
	}
}

func TestFinishWithoutDoneIsCompleted(t *testing.T) {
	t.Parallel()
	first := fakellm.Start(t, "openai")
	first.Always(fakellm.Text("one").NoDone())
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, first.URL())
	s.serve("m a/x")
	if got := s.post("/v1/chat/completions", chat("m", true)); !strings.HasSuffix(got.body, "data: [DONE]\n\n") || strings.Contains(got.body, "error") {
		t.Errorf("body: %s", got.body)
	}
}

// Of two prompts one was answered when the stream broke off: that is no end, though a choice finished.
func TestOnePromptOfTwoIsNoAnswer(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Text("one").NoDone())
	s.serve("m u")
	for prompt, complete := range map[string]bool{`"a"`: true, `["a"]`: true, `["a","b"]`: false} {
		got := s.post("/v1/completions", `{"model":"m","stream":true,"prompt":`+prompt+`}`)
		if done := strings.HasSuffix(got.body, "data: [DONE]\n\n"); done != complete || strings.Contains(got.body, `data: {"error"`) == complete {
			t.Errorf("%s: %s", prompt, got.body)
		}
	}
}

// The caller's own mistakes are told in the upstream's words and tried nowhere else.
func TestCallersErrorIsNotRetried(t *testing.T) {
	t.Parallel()
	first, second := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
	first.Always(fakellm.Raw(http.StatusUnprocessableEntity, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"temperature too hot","type":"invalid_request_error","param":"temperature","code":7}}`)))
	s := &setup{t: t}
	s.up("a", upstream.OpenAI, nil, first.URL())
	s.up("b", upstream.OpenAI, nil, second.URL())
	s.serve("m a/x | b/y")
	got := s.post("/v1/chat/completions", chat("m", false))
	want := `{"error":{"message":"temperature too hot","type":"invalid_request_error","param":"temperature","code":"7"}}`
	if diff := cmp.Diff(want, got.body); got.status != http.StatusUnprocessableEntity || diff != "" {
		t.Errorf("status %d %s", got.status, diff)
	}
	if n := len(second.Requests()); n != 0 {
		t.Errorf("the second target got %d requests", n)
	}
}

// A redirect is the address's fault, not the key's.
func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Status(http.StatusFound, "Location", "/login"))
	got := s.serve("m u").post("/v1/chat/completions", chat("m", false))
	want := told(`The upstream \"u\" redirects to another address, which this gateway does not follow. The operator must check its address.`, "server_error", "", "upstream_error")
	if got.status != http.StatusBadGateway || got.body != want || len(fake.Requests()) != 1 {
		t.Errorf("status %d, %d requests, %s", got.status, len(fake.Requests()), got.body)
	}
}
