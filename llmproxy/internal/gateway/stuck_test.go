package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// As delivery has them.
const (
	silenceLeast = 20 * time.Second
	checksApart  = 2 * time.Second
)

// stuck is a server of a kind, in a bubble, with a service to fall back to, whose changes are kept.
func stuck(t *testing.T, kind *upstream.Kind) (s *setup, box *fakellm.Server, changes chan delivery.Change) {
	s = &setup{t: t, bubble: new(bubble)}
	box, address := s.bubble.fake(t, kind.Name, fakellm.Slots(8))
	s.up("box", kind, func(c *upstream.Config) {
		c.MaxConcurrent = 8
		c.Timers = upstream.Timers{FirstToken: 2 * suspicious}
	}, address)
	_, address = s.bubble.fake(t, "openai")
	s.up("api", upstream.OpenAI, nil, address)
	changes = make(chan delivery.Change, 8)
	s.config.Changed = func(c delivery.Change) { changes <- c }
	return s.serve("m box/x | api/y", "lone box/x"), box, changes
}

// answered is the record of a request that the target answered; its client got pings before, and with them the headers.
func (s *setup) answered(target string) *exchange.Record {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rec := range s.records {
		if rec.Target == target {
			return rec
		}
	}
	return nil
}

// suspicious is when a silent replica is first looked at.
const suspicious = 30 * time.Second

// A server on which nothing moves, but which says that it is well, is found by one silent request: the streams that have begun
// end with an error, those that have not go elsewhere, long before their time is over; and a probe does not bring it back.
func TestStuck(t *testing.T) {
	for _, kind := range []*upstream.Kind{upstream.VLLM, upstream.LlamaCpp} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { becomesStuck(t, kind) })
		})
	}
}

func becomesStuck(t *testing.T, kind *upstream.Kind) {
	s, box, changes := stuck(t, kind)
	box.Next(fakellm.Text("a", "b").StallAfter(1), fakellm.Text("a").StallAfter(0))
	begun := time.Now()
	var all sync.WaitGroup
	var first, second reply
	all.Go(func() { first = s.post("/v1/chat/completions", chat("m", true)) })
	synctest.Wait() // until it has begun
	all.Go(func() { second = s.post("/v1/chat/completions", chat("m", true)) })
	all.Wait()
	if took, want := time.Since(begun), suspicious+checksApart; took != want {
		t.Errorf("it was found after %s, want %s", took, want)
	}
	if !strings.Contains(first.body, "stopped sending") || strings.Contains(first.body, "[DONE]") {
		t.Errorf("the stream that had begun: %s", first.body)
	}
	if rec := s.answered("api/y"); second.status != http.StatusOK || rec == nil || rec.Route != "fallback:timeout" {
		t.Errorf("the other one: %+v", rec)
	}
	if c := <-changes; c.Healthy || c.State != replica.Stuck || c.Reason != router.Timeout || c.Upstream != "box" {
		t.Errorf("told %+v", c)
	}
	s.gateway.Status(t.Context())
	if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "api/y" {
		t.Errorf("a probe brought it back: %q answers", got.header.Get("X-Llm-Target"))
	}
	if got := s.post("/v1/chat/completions", chat("lone", true)); got.status != http.StatusOK {
		t.Errorf("the lone one is shut out: status %d", got.status)
	}
	if c := <-changes; !c.Healthy || c.State != replica.Up {
		t.Errorf("an answer did not bring it back: %+v", c)
	}
}

// Content that comes late is progress all the same: the silence begins behind it.
func TestLateContentIsNoSilence(t *testing.T) {
	for name, answer := range map[string]fakellm.Answer{"stream": fakellm.Text("a", "b").StallAfter(1), "whole": fakellm.Text("a")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, box, _ := stuck(t, upstream.VLLM)
				box.Next(answer.Delay(suspicious-time.Second), fakellm.Text("a").StallAfter(0))
				begun := time.Now()
				var first sync.WaitGroup
				first.Go(func() { s.post("/v1/chat/completions", chat("m", name == "stream")) })
				synctest.Wait() // until it is there
				s.post("/v1/chat/completions", chat("m", true))
				first.Wait()
				if took := time.Since(begun); took < suspicious+silenceLeast {
					t.Errorf("it was found after %s", took)
				}
			})
		})
	}
}

// A request without another target is not rejected: a stuck server may recover, and no other can answer.
func TestLoneOneIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box, changes := stuck(t, upstream.VLLM)
		release := make(chan struct{})
		box.Next(fakellm.Text("at last").Hold(release))
		answered := make(chan reply)
		go func() { answered <- s.post("/v1/chat/completions", chat("lone", true)) }()
		if c := <-changes; c.State != replica.Stuck {
			t.Errorf("told %+v", c)
		}
		close(release)
		if got := <-answered; got.status != http.StatusOK || !strings.Contains(got.body, "at last") {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		if c := <-changes; c.State != replica.Up {
			t.Errorf("told %+v", c)
		}
	})
}

// A long prompt is not stuck: while it is read, the counters rise.
func TestPrefillIsNotStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box, changes := stuck(t, upstream.VLLM)
		box.OnPath("/metrics", fakellm.Raw(http.StatusOK, nil, page(1)))
		release := make(chan struct{})
		box.Next(fakellm.Text("at last").Hold(release))
		answered := make(chan reply)
		go func() { answered <- s.post("/v1/chat/completions", chat("m", true)) }()
		<-time.After(suspicious + checksApart/4)
		box.OnPath("/metrics", fakellm.Raw(http.StatusOK, nil, page(2048)))
		<-time.After(checksApart)
		looks := slices.DeleteFunc(box.Probes(), func(p fakellm.Request) bool { return p.Path != "/metrics" })
		if most := int((suspicious+2*checksApart)/upstream.WorkInterval) + 1; len(looks) < 2 || len(looks) > most {
			t.Errorf("its counters were read %d times, want twice at least and %d times at most", len(looks), most)
		}
		close(release)
		if got := <-answered; !strings.Contains(got.body, "at last") || s.answered("box/x") == nil {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		if len(changes) != 0 {
			t.Errorf("told %+v", <-changes)
		}
	})
}

func page(prompt int) []byte {
	return fmt.Appendf(nil, "vllm:prompt_tokens_total{engine=\"0\",model_name=\"a b\"} %d.0\nvllm:generation_tokens_total{engine=\"0\"} 7.0\n", prompt)
}

// Without counters three streams that wait in vain at the same time are as good as three strikes in a row; two are not.
func TestSilentOllama(t *testing.T) {
	for _, tt := range []struct {
		streams int
		want    replica.State
	}{{2, replica.Up}, {3, replica.Stuck}} {
		t.Run(fmt.Sprint(tt.streams), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, box, _ := stuck(t, upstream.Ollama)
				box.Always(fakellm.Text("a").StallAfter(0))
				var all sync.WaitGroup
				for range tt.streams {
					all.Go(func() {
						if got := s.post("/v1/chat/completions", chat("m", true)); !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
							t.Errorf("status %d: %s", got.status, got.body)
						}
					})
				}
				all.Wait()
				if got := s.upstreams[0].Replicas[0].Status().State; got != tt.want {
					t.Errorf("it is %s, want %s", got, tt.want)
				}
			})
		})
	}
}
