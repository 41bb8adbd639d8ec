package gateway

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// boxed is a gateway in a bubble in front of a server of a kind, whose model is "m".
func boxed(t *testing.T, kind *upstream.Kind, configured int, opts ...fakellm.Option) (*setup, *fakellm.Server) {
	s := &setup{t: t, bubble: new(bubble)}
	box, address := s.bubble.fake(t, kind.Name, opts...)
	s.up("box", kind, func(c *upstream.Config) {
		c.MaxConcurrent, c.Queue = configured, admission.Config{Size: 64, PerCaller: 64, MaxWait: time.Hour}
	}, address)
	return s.serve("m box/x"), box
}

// asked returns how often a path of the server was asked for.
func asked(box *fakellm.Server, path string) (n int) {
	for _, probe := range box.Probes() {
		if probe.Path == path {
			n++
		}
	}
	return n
}

// foreign sends a request to the server as another client, and returns when the server has it. Leave ends it.
func (s *setup) foreign(box *fakellm.Server, address string) (leave func()) {
	req, err := http.NewRequest(http.MethodPost, address+"/v1/chat/completions", strings.NewReader(chat("x", true)))
	if err != nil {
		s.t.Fatal(err)
	}
	release := make(chan struct{})
	box.Next(fakellm.Text("for another client").Hold(release))
	var gone sync.WaitGroup
	gone.Go(func() {
		res, err := s.transport().RoundTrip(req)
		if err != nil {
			s.t.Error(err)
			return
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body) // the fake counts it until it has ended
	})
	synctest.Wait()
	return func() { close(release); gone.Wait() }
}

// A server gets as many requests at once as it says that it has slots, whatever more the configuration allows.
func TestStatedSlotsOverSockets(t *testing.T) {
	for _, tt := range []struct {
		name              string
		configured, slots int
		want              int
	}{{"not configured", 0, 3, 3}, {"more configured", 8, 2, 2}, {"less configured", 2, 4, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "llamacpp", fakellm.Slots(tt.slots))
			s := &setup{t: t}
			s.up("box", upstream.LlamaCpp, func(c *upstream.Config) {
				c.MaxConcurrent, c.Queue = tt.configured, admission.Config{Size: 64, PerCaller: 64}
			}, fake.URL())
			s.serve("m box/x")
			s.upstreams[0].Discover(t.Context())
			release := make(chan struct{})
			fake.Always(fakellm.Text("a", "b").Hold(release))
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					if got := s.post("/v1/chat/completions", chat("m", i%2 == 0)); got.status != http.StatusOK {
						t.Errorf("status %d: %s", got.status, got.body)
					}
				})
			}
			replica := s.upstreams[0].Replicas[0]
			until(t, func() bool { return fake.InFlight() == tt.want && replica.Waiting() == 20-tt.want })
			close(release)
			all.Wait()
			if n := fake.MaxInFlight(); n != tt.want {
				t.Errorf("%d requests were at the server at once, want %d", n, tt.want)
			}
		})
	}
}

// A client that leaves while the server reads its prompt frees no slot before the server has noticed it, or a cautious time is over.
func TestLeftSlotStaysTaken(t *testing.T) {
	for _, tt := range []struct {
		name        string
		notices     time.Duration // zero: never
		least, most time.Duration // from the departure to the next request
	}{
		{"it notices soon", time.Second, time.Second, 1*time.Second + upstream.WorkInterval},
		{"it notices after 5 s", 5 * time.Second, 5 * time.Second, 5*time.Second + upstream.WorkInterval},
		{"it never notices", 0, 10 * time.Second, 11 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, box := boxed(t, upstream.LlamaCpp, 0, fakellm.Slots(1))
				release := make(chan struct{})
				box.Next(fakellm.Text("never read").HoldDeaf(release))
				leave := s.start(chat("m", true))
				time.Sleep(3 * time.Second)
				left := time.Now()
				leave()
				answered := make(chan time.Duration, 1)
				var all sync.WaitGroup
				defer all.Wait()
				all.Go(func() {
					if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK {
						t.Errorf("status %d: %s", got.status, got.body)
					}
					answered <- time.Since(left)
				})
				if tt.notices > 0 {
					time.Sleep(tt.notices)
					close(release)
				} else {
					defer close(release)
					time.Sleep(tt.least - time.Millisecond)
				}
				if n := box.MaxInFlight(); n != 1 {
					t.Errorf("%d requests were at the server, which has one slot", n)
				}
				if tt.notices == 0 { // the next request now waits at the server, whose slot is still taken
					time.Sleep(tt.most - tt.least)
					if n := box.InFlight(); n != 2 {
						t.Errorf("%d requests are at the server after the time is up, want 2", n)
					}
					return
				}
				if took := <-answered; took < tt.least || took > tt.most {
					t.Errorf("the next request took %s after the departure, want %s to %s", took, tt.least, tt.most)
				}
			})
		})
	}
}

// The client of a stream that has begun leaves its slot at once: the server notices with the next token.
func TestLeftStreamFreesItsSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box := boxed(t, upstream.LlamaCpp, 0, fakellm.Slots(1))
		box.Next(fakellm.Text("a", "b").StallAfter(1))
		leave := s.start(chat("m", true))
		synctest.Wait()
		left := time.Now()
		leave()
		s.post("/v1/chat/completions", chat("m", true))
		if took := time.Since(left); took > time.Second {
			t.Errorf("the next request took %s", took)
		}
		if n := box.MaxInFlight(); n != 1 {
			t.Errorf("%d requests were at the server at once", n)
		}
	})
}

// Requests of other clients have slots, too. The gateway learns of them within two seconds, and when they have ended.
func TestForeignLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &setup{t: t, bubble: new(bubble)}
		box, address := s.bubble.fake(t, "llamacpp", fakellm.Slots(2))
		s.up("box", upstream.LlamaCpp, func(c *upstream.Config) { c.Queue = admission.Config{Size: 8} }, address)
		s.serve("m box/x")
		s.upstreams[0].Discover(t.Context())
		leave := s.foreign(box, address)
		release := make(chan struct{})
		box.Next(fakellm.Text("own").Hold(release), fakellm.Text("own").Hold(release))
		var all sync.WaitGroup
		all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		time.Sleep(1500 * time.Millisecond)
		replica := s.upstreams[0].Replicas[0]
		if n := replica.Load(); n != 2 || replica.InFlight() != 1 {
			t.Errorf("a load of %d with %d own requests, want 2 with 1", n, replica.InFlight())
		}
		all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		synctest.Wait()
		if replica.Waiting() != 1 || box.MaxInFlight() != 2 {
			t.Errorf("%d requests wait, %d were at the server, which has two slots", replica.Waiting(), box.MaxInFlight())
		}
		leave()
		time.Sleep(upstream.WorkInterval)
		if replica.Waiting() != 0 || replica.Load() != 2 {
			t.Errorf("%d requests wait, and the load is %d, after the other client has left", replica.Waiting(), replica.Load())
		}
		close(release)
		all.Wait()
	})
}

// The slots of vLLM are learned from its queue: after two looks at one that does not become shorter, requests wait here instead.
func TestLearnsSlotsOfVLLM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box := boxed(t, upstream.VLLM, 0, fakellm.Slots(3))
		box.Always(fakellm.Text("a").Delay(10 * time.Second))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		}
		time.Sleep(4 * time.Second)
		if got := s.upstreams[0].Capacity(0).Slots; got != 3 {
			t.Errorf("%d slots were learned, want 3", got)
		}
		for range 6 {
			all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		}
		synctest.Wait()
		if n := s.upstreams[0].Replicas[0].Waiting(); n != 6 {
			t.Errorf("%d requests wait here, want 6", n)
		}
		time.Sleep(27 * time.Second) // the first eight have ended
		if n := box.InFlight(); n > 4 {
			t.Errorf("%d requests are at the server, which has three slots", n)
		}
		all.Wait()
	})
}

// A refusal because of load shows how many requests the server can do.
func TestRefusalsOfVLLM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box := boxed(t, upstream.VLLM, 0)
		release := make(chan struct{})
		box.Next(fakellm.Text("a").Hold(release), fakellm.Text("a").Hold(release), fakellm.Busy())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if got := s.post("/v1/chat/completions", chat("m", true)); got.status != http.StatusOK {
					t.Errorf("status %d: %s", got.status, got.body)
				}
			})
			synctest.Wait()
		}
		if got := s.upstreams[0].Capacity(0).Slots; got != 2 {
			t.Errorf("%d slots, want 2", got)
		}
		close(release)
		all.Wait()
	})
}

// A prompt that would need the space of the others in vLLM's KV cache waits until they are done.
func TestLongPromptWaitsForSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box := boxed(t, upstream.VLLM, 0, fakellm.CacheTokens(64_000))
		release := make(chan struct{})
		for range 8 {
			box.Next(fakellm.Text("chat").Hold(release))
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		}
		time.Sleep(2 * time.Second) // it has said how large its cache is
		long := `{"model":"m","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 48_000) + `"}]}`
		all.Go(func() {
			if got := s.post("/v1/chat/completions", long); got.status != http.StatusOK {
				t.Errorf("status %d: %s", got.status, got.body)
			}
		})
		synctest.Wait()
		replica := s.upstreams[0].Replicas[0]
		if n, c := len(box.Requests()), s.upstreams[0].Capacity(0); n != 8 || replica.Waiting() != 1 || c.MaxTokens != 57_600 || c.Slots != 0 {
			t.Errorf("the server has got %d requests, %d wait, and it has %+v", n, replica.Waiting(), c)
		}
		close(release)
		all.Wait()
		if n := len(box.Requests()); n != 9 {
			t.Errorf("the server has got %d requests", n)
		}
	})
}

// Requests that vLLM has interrupted show that less fits in its KV cache than was expected.
func TestInterruptionsOfVLLM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, box := boxed(t, upstream.VLLM, 0, fakellm.CacheTokens(64_000))
		box.Next(fakellm.Text("a").Delay(6 * time.Second))
		var all sync.WaitGroup
		all.Go(func() { s.post("/v1/chat/completions", chat("m", true)) })
		time.Sleep(2 * time.Second)
		box.Preempt()
		time.Sleep(2 * time.Second)
		if got := s.upstreams[0].Capacity(0); got.MaxTokens != 51_840 || got.Slots != 1 {
			t.Errorf("%+v, want 0.9 of 57,600 tokens and one slot", got)
		}
		all.Wait()
	})
}

// A server is asked about its load only while it has requests, never more often than every two seconds, and not for a short request.
func TestIdleServersAreNotAsked(t *testing.T) {
	for kind, path := range map[*upstream.Kind]string{upstream.VLLM: "/metrics", upstream.LlamaCpp: "/metrics", upstream.Ollama: "/api/ps"} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, box := boxed(t, kind, 4, fakellm.Slots(4), fakellm.Models("x"))
				s.post("/v1/chat/completions", chat("m", true))
				synctest.Wait() // Ollama is asked which models are in memory
				before := asked(box, path)
				time.Sleep(time.Hour)
				if n := asked(box, path) - before; n != 0 {
					t.Errorf("it was asked %d times after a short request", n)
				}
				box.Next(fakellm.Text("a").Delay(20 * time.Second))
				s.post("/v1/chat/completions", chat("m", true))
				busy := asked(box, path) - before
				if most := 10; busy > most || busy < 9 && kind != upstream.Ollama {
					t.Errorf("it was asked %d times in 20 s, want 9 or %d", busy, most)
				}
				time.Sleep(time.Hour)
				if n := asked(box, path) - before; n != busy {
					t.Errorf("it was asked %d times while it was idle", n-busy)
				}
			})
		})
	}
}
