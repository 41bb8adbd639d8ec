package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// The key's priority decides who of those that wait is next, and who has to go when the waiting room is full.
func TestPriorityOfKeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, model, route string
		status             int
	}{
		{"who loses the place goes on to the next pool", "m gpu/x | api/y", "spill", http.StatusOK},
		{"or is told to come back", "m gpu/x", "m", http.StatusTooManyRequests},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, release := &setup{t: t}, make(chan struct{})
			local, remote := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
			local.Next(fakellm.Text("slow").Hold(release))
			s.up("gpu", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent, c.Queue = 1, admission.Config{Size: 3} }, local.URL())
			s.up("api", upstream.OpenAI, nil, remote.URL())
			s.guarded(&keys.Entry{Name: "hi", Priority: "high"}, &keys.Entry{Name: "mid"}, &keys.Entry{Name: "lo", Priority: "low"}, &keys.Entry{Name: "batch", Priority: "low"})
			s.serve(test.model)
			replica := s.upstreams[0].Replicas[0]
			answers := map[string]chan reply{}
			for i, key := range []string{"first", "lo", "batch", "mid", "hi"} {
				answer := make(chan reply, 1)
				answers[key] = answer
				body := strings.Replace(chat("m", true), "Hi", key, 1)
				secret := "secret-" + strings.Replace(key, "first", "mid", 1)
				go func() { answer <- s.post("/v1/chat/completions", body, "Authorization", "Bearer "+secret) }()
				until(t, func() bool { return len(local.Requests()) == 1 && replica.Waiting() == min(i, 3) })
			}
			out := <-answers["batch"] // the youngest of the lowest class
			if out.status != test.status || out.status == http.StatusOK && out.header.Get("X-Llm-Route") != test.route {
				t.Errorf("who lost the place: status %d, route %q: %s", out.status, out.header.Get("X-Llm-Route"), out.body)
			}
			if out.status != http.StatusOK && (!strings.Contains(out.body, `"code":"queue_full"`) || out.header.Get("Retry-After") != "1") {
				t.Errorf("who lost the place was told %s, Retry-After %q", out.body, out.header.Get("Retry-After"))
			}
			close(release)
			for _, key := range []string{"first", "hi", "mid", "lo"} {
				if got := <-answers[key]; got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "gpu/x" {
					t.Errorf("%s: status %d from %q: %s", key, got.status, got.header.Get("X-Llm-Target"), got.body)
				}
			}
			var order []string
			for _, r := range local.Requests() {
				for key := range answers {
					if strings.Contains(string(r.Body), `"`+key+`"`) {
						order = append(order, key)
					}
				}
			}
			if diff := cmp.Diff([]string{"first", "hi", "mid", "lo"}, order); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Three keys send forty requests at once to a server with two slots: it never gets more than two, all are answered, and the keys that send
// few are not behind the one that sends many.
func TestFortyRequestsOfThreeKeys(t *testing.T) {
	t.Parallel()
	s, release := &setup{t: t}, make(chan struct{})
	local := fakellm.Start(t, "llamacpp")
	local.Next(fakellm.Text("slow").Hold(release), fakellm.Text("slow").Hold(release))
	s.up("gpu", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent, c.Queue = 2, admission.Config{Size: 64} }, local.URL())
	s.guarded(&keys.Entry{Name: "greedy"}, &keys.Entry{Name: "ann"}, &keys.Entry{Name: "ben"})
	s.serve("m gpu/x")
	names := slices.Concat(slices.Repeat([]string{"greedy"}, 30), slices.Repeat([]string{"ann", "ben"}, 5))
	answers := make(chan reply, len(names))
	for i, key := range names {
		body := strings.Replace(chat("m", true), `"Hi"`, `"`+key+`"`, 1)
		body = strings.Replace(body, `{`, `{"max_tokens":2,`, 1) // so that a request costs what was expected, and it does not matter how soon that is known
		go func() { answers <- s.post("/v1/chat/completions", body, "Authorization", "Bearer secret-"+key) }()
		until(t, func() bool {
			return len(local.Requests()) == min(i+1, 2) && s.upstreams[0].Replicas[0].Waiting() == max(i-1, 0)
		})
	}
	close(release)
	for range names {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
	if n := local.MaxInFlight(); n != 2 {
		t.Errorf("the server had %d requests at once", n)
	}
	early := 0
	for _, r := range local.Requests()[:20] {
		if !strings.Contains(string(r.Body), `"greedy"`) {
			early++
		}
	}
	if early < 8 { // a request that is still being settled may hold up the next one of its key
		t.Errorf("%d of the 10 requests of the keys that send few were among the first 20", early)
	}
}

// Three keys send requests at random times. One of them asks for more than the server can do. The server never gets more requests than it
// has slots, and each request is answered or told to come back. The keys that ask for less than their share are never refused, and hardly
// any request is served between one of theirs and its answer. That is the simulation of router/admission over HTTP.
func TestRandomRequestsOfThreeKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const (
			slots, places, requests = 2, 24, 240
			perToken                = 2 * time.Millisecond
			meanTokens, first       = 7, 4 * time.Millisecond
			load, polite            = 1.5, 0.2 // of the capacity: of all keys, and of each polite one
		)
		r := rand.New(rand.NewPCG(1, 2))
		s := &setup{t: t, bubble: new(bubble)}
		local, address := s.bubble.fake(t, "openai")
		for range requests {
			answer := fakellm.Text(slices.Repeat([]string{"x"}, 1+r.IntN(2*meanTokens-1))...)
			local.Next(answer.DelayFirst(first).Interval(perToken))
		}
		s.up("gpu", upstream.OpenAI, func(c *upstream.Config) {
			c.MaxConcurrent, c.Queue = slots, admission.Config{Size: places}
		}, address)
		s.guarded(&keys.Entry{Name: "greedy"}, &keys.Entry{Name: "ann"}, &keys.Entry{Name: "ben"})
		s.serve("m gpu/x")
		type outcome struct {
			key, name string
			before    int // how many requests the server had got when it was sent
			reply
		}
		outcomes := make(chan outcome, requests)
		between := float64(first+meanTokens*perToken) / slots / load // requests, on average
		for i := range requests {
			key := "greedy"
			switch pick := r.Float64() * load; {
			case pick < polite:
				key = "ann"
			case pick < 2*polite:
				key = "ben"
			}
			x := outcome{key: key, name: fmt.Sprintf("%s %d", key, i), before: len(local.Requests())}
			go func() {
				x.reply = s.post("/v1/chat/completions", strings.Replace(chat("m", true), `"Hi"`, `"`+x.name+`"`, 1), "Authorization", "Bearer secret-"+key)
				outcomes <- x
			}()
			<-time.After(time.Duration(r.ExpFloat64() * between)) // requests come at random times
		}
		all := make([]outcome, 0, requests)
		for range requests {
			all = append(all, <-outcomes)
		}
		order := map[string]int{}
		for i, q := range local.Requests() {
			order[regexp.MustCompile(`(greedy|ann|ben) \d+`).FindString(string(q.Body))] = i
		}
		served, waited, answered := map[string]int{}, map[string]int{}, 0
		for _, x := range all {
			switch {
			case x.status == http.StatusOK:
				answered++
				served[x.key]++
				waited[x.key] += max(order[x.name]-x.before, 0)
			case x.status != http.StatusTooManyRequests || x.key != "greedy" || !strings.Contains(x.body, `"code":"queue_full"`):
				t.Errorf("%s: status %d: %s", x.name, x.status, x.body)
			}
		}
		if n := local.MaxInFlight(); n != slots {
			t.Errorf("the server had %d requests at once", n)
		}
		if n := len(order); n != answered {
			t.Errorf("the server got %d requests, and %d were answered", n, answered)
		}
		greedy := float64(waited["greedy"]) / float64(served["greedy"])
		for _, key := range []string{"ann", "ben"} {
			if mean := float64(waited[key]) / float64(served[key]); mean > greedy/2 {
				t.Errorf("%.1f requests were served between one of %s and its answer, %.1f with the greedy key", mean, key, greedy)
			}
		}
		if greedy < places/4 {
			t.Errorf("%.1f requests were served between one of the greedy key and its answer: the server had too little to do", greedy)
		}
	})
}

// A key that sends many requests does not delay another key's one by more than the request that has begun.
func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	s, release := &setup{t: t}, make(chan struct{})
	local := fakellm.Start(t, "openai")
	local.Next(fakellm.Text("slow").Hold(release))
	s.up("gpu", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent, c.Queue = 1, admission.Config{Size: 8} }, local.URL())
	s.guarded(&keys.Entry{Name: "greedy"}, &keys.Entry{Name: "polite"})
	s.serve("m gpu/x")
	answers := make(chan reply, 5)
	for i, key := range []string{"greedy", "greedy", "greedy", "greedy", "polite"} {
		body := strings.Replace(chat("m", true), "Hi", key, 1)
		go func() { answers <- s.post("/v1/chat/completions", body, "Authorization", "Bearer secret-"+key) }()
		until(t, func() bool { return len(local.Requests()) == 1 && s.upstreams[0].Replicas[0].Waiting() == i })
	}
	close(release)
	var order []string
	for range 5 {
		if got := <-answers; got.status != http.StatusOK {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
	for _, r := range local.Requests() {
		key := "greedy"
		if strings.Contains(string(r.Body), `"polite"`) {
			key = "polite"
		}
		order = append(order, key)
	}
	if diff := cmp.Diff([]string{"greedy", "polite", "greedy", "greedy", "greedy"}, order); diff != "" {
		t.Error(diff)
	}
}
