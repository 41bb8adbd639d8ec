package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// stuck is a server of a kind, with a service to fall back to, whose changes are kept.
func stuck(t *testing.T, kind *upstream.Kind) (s *setup, box *fakellm.Server, changes chan Change) {
	s, box = &setup{t: t}, fakellm.Start(t, kind.Name)
	s.up("box", kind, func(c *upstream.Config) {
		c.MaxConcurrent = 8
		c.Timers = upstream.Timers{FirstToken: 4 * time.Second, Idle: time.Minute}
	}, box.URL())
	s.up("api", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	changes = make(chan Change, 8)
	s.config.Changed = func(c Change) { changes <- c }
	s.serve("m box/x | api/y", "lone box/x")
	s.gateway.silence = silenceTimes{least: 200 * time.Millisecond, apart: 50 * time.Millisecond}
	return s, box, changes
}

// A server on which nothing moves, but which says that it is well, is found by one silent request: the streams that have begun
// end with an error, those that have not go elsewhere, long before their time is over; and a probe does not bring it back.
func TestWedged(t *testing.T) {
	for _, kind := range []*upstream.Kind{upstream.VLLM, upstream.LlamaCpp} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			s, box, changes := stuck(t, kind)
			box.Next(fakellm.Text("a", "b").StallAfter(1), fakellm.Text("a").StallAfter(0))
			var all sync.WaitGroup
			var first, second reply
			all.Go(func() { first = s.post("/v1/chat/completions", chat("m", true)) })
			box.Wait(t, 1)
			all.Go(func() { second = s.post("/v1/chat/completions", chat("m", true)) })
			all.Wait()
			if !strings.Contains(first.body, "went silent") || strings.Contains(first.body, "[DONE]") {
				t.Errorf("the stream that had begun: %s", first.body)
			}
			if second.header.Get("X-Llm-Target") != "api/y" || second.header.Get("X-Llm-Route") != "fallback:slow" {
				t.Errorf("the other one: %q by %q", second.header.Get("X-Llm-Target"), second.header.Get("X-Llm-Route"))
			}
			if c := <-changes; c.Healthy || c.State != router.Wedged || c.Why != router.Slow || c.Upstream != "box" {
				t.Errorf("told %+v", c)
			}
			s.gateway.Status(t.Context())
			if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "api/y" {
				t.Errorf("a probe brought it back: %q answers", got.header.Get("X-Llm-Target"))
			}
			if got := s.post("/v1/chat/completions", chat("lone", true)); got.status != http.StatusOK {
				t.Errorf("the lone one is shut out: status %d", got.status)
			}
			if c := <-changes; !c.Healthy || c.State != router.Up {
				t.Errorf("an answer did not bring it back: %+v", c)
			}
		})
	}
}

// Who has no other target left is not sent away: a stuck server may recover, and nobody else can answer.
func TestLoneOneIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, box, changes := stuck(t, upstream.VLLM)
	release := make(chan struct{})
	box.Next(fakellm.Text("at last").Hold(release))
	answered := make(chan reply)
	go func() { answered <- s.post("/v1/chat/completions", chat("lone", true)) }()
	if c := <-changes; c.State != router.Wedged {
		t.Errorf("told %+v", c)
	}
	close(release)
	if got := <-answered; got.status != http.StatusOK || !strings.Contains(got.body, "at last") {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if c := <-changes; c.State != router.Up {
		t.Errorf("told %+v", c)
	}
}

// A long prompt is no wedge: while it is read, the counters rise.
func TestPrefillIsNotWedged(t *testing.T) {
	t.Parallel()
	s, box, changes := stuck(t, upstream.VLLM)
	s.gateway.silence.apart = time.Second
	box.OnPath("/metrics", fakellm.Raw(http.StatusOK, nil, page(1)))
	release := make(chan struct{})
	box.Next(fakellm.Text("at last").Hold(release))
	answered := make(chan reply)
	go func() { answered <- s.post("/v1/chat/completions", chat("m", true)) }()
	box.Wait(t, 1)
	until(t, func() bool {
		return slices.ContainsFunc(box.Probes(), func(r fakellm.Request) bool { return r.Path == "/metrics" })
	})
	box.OnPath("/metrics", fakellm.Raw(http.StatusOK, nil, page(2048)))
	until(t, s.upstreams[0].Route.Replicas[0].Suspect) // that it is wedged or not, is found out
	close(release)
	if got := <-answered; got.header.Get("X-Llm-Target") != "box/x" {
		t.Errorf("%q answers: %s", got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
	}
	if len(changes) != 0 {
		t.Errorf("told %+v", <-changes)
	}
}

func page(prompt int) []byte {
	return fmt.Appendf(nil, "vllm:prompt_tokens_total{engine=\"0\",model_name=\"a b\"} %d.0\nvllm:generation_tokens_total{engine=\"0\"} 7.0\n", prompt)
}

// Without counters three streams that wait in vain at the same time are as good as three strikes in a row; two are not.
func TestSilentOllama(t *testing.T) {
	for _, tt := range []struct {
		streams int
		want    router.State
	}{{2, router.Up}, {3, router.Wedged}} {
		t.Run(fmt.Sprint(tt.streams), func(t *testing.T) {
			t.Parallel()
			s, box, _ := stuck(t, upstream.Ollama)
			box.Always(fakellm.Text("a").StallAfter(0))
			replica := s.upstreams[0].Route.Replicas[0]
			var got router.State
			for range 5 { // a machine that is too busy to answer a probe within half a second counts as loading, and nothing else is found out
				until(t, func() bool { return replica.Facts().State == router.Up })
				var all sync.WaitGroup
				targets := make([]string, tt.streams)
				for i := range targets {
					all.Go(func() { targets[i] = s.post("/v1/chat/completions", chat("m", true)).header.Get("X-Llm-Target") })
				}
				all.Wait()
				for _, target := range targets {
					if diff := cmp.Diff("api/y", target); diff != "" {
						t.Error(diff)
					}
				}
				if got = replica.Facts().State; got == tt.want {
					break
				}
			}
			if got != tt.want {
				t.Errorf("it is %s, want %s", got, tt.want)
			}
		})
	}
}
