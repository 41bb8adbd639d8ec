package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

const (
	responseStream = `{"model":"m","input":"Hi","stream":true}`
	responseWhole  = `{"model":"m","input":"Hi"}`
)

// A crowd is a gateway in a bubble whose only upstream is busy: its slot is taken until free is called, and so are all places of its
// queue, until the deadline of that.
type crowd struct {
	*setup
	fake *fakellm.Server
	free func()
}

func newCrowd(t *testing.T, queue admission.Config, models ...string) *crowd {
	t.Helper()
	release := make(chan struct{})
	c := &crowd{setup: &setup{t: t, bubble: new(bubble)}}
	c.free = func() { close(release) }
	var address, other string
	c.fake, address = c.bubble.fake(t, "openai")
	c.fake.Always(fakellm.Text("Hel", "lo").Hold(release))
	_, other = c.bubble.fake(t, "openai")
	c.up("u", upstream.OpenAI, func(config *upstream.Config) { config.MaxConcurrent, config.Queue = 1, queue }, address)
	c.up("other", upstream.OpenAI, nil, other)
	c.serve(append(models, "m u/x")...)
	for range 1 + queue.Size {
		go c.post("/v1/chat/completions", chat("m", true))
		synctest.Wait()
	}
	if r := c.upstreams[0].Replicas[0]; r.InFlight() != 1 || r.Waiting() != queue.Size {
		t.Fatalf("%d slots are taken, %d requests wait", r.InFlight(), r.Waiting())
	}
	return c
}

// A stream of the Responses API that gets no place in the queue is held, and pinged, until it gets one.
func TestResponsesAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, admission.Config{Size: 1})
		go func() {
			time.Sleep(40 * time.Second)
			c.free()
		}()
		got := c.post("/v1/responses", responseStream)
		if got.status != http.StatusOK || strings.Count(got.body, ": ping") != 2 || !strings.Contains(got.body, "event: response.completed") {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		if rec := c.record(); rec.Queue < 40*time.Second || rec.Queue > 42*time.Second || len(rec.Attempts) != 1 {
			t.Errorf("waited %s, %d attempts", rec.Queue, len(rec.Attempts))
		}
	})
}

// It is held for as long as the queue lets requests wait, and then learns in the way that agents understand when to come back.
func TestResponsesAreHeldForTheQueuesWait(t *testing.T) {
	for _, tt := range []struct {
		name          string
		wait, took    time.Duration
		status        int
		retry, answer string
	}{
		{"before the first ping", 10 * time.Second, 10 * time.Second, 503, "1", `{"error":{"message":"No slot became free within 10s. Try again in 1 s.","type":"rate_limit_error","param":null,"code":"queue_full"}}`},
		{"after it", 20 * time.Second, 20 * time.Second, 200, "", `"error":{"code":"rate_limit_exceeded","message":"No slot became free within 20s. Try again in 1 s."}`},
		{"by default", 0, 5 * time.Minute, 200, "", `"error":{"code":"rate_limit_exceeded","message":"No slot became free within 5m0s. Try again in 1 s."}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, admission.Config{Size: 1, MaxWait: tt.wait})
				defer c.free()
				stop := c.keepFull()
				defer stop()
				began := time.Now()
				got := c.post("/v1/responses", responseStream)
				if got.status != tt.status || got.header.Get("Retry-After") != tt.retry || !strings.Contains(got.body, tt.answer) {
					t.Errorf("status %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// keepFull lets a request of a higher priority wait as soon as one leaves the queue.
func (c *crowd) keepFull() (stop func()) {
	place, slot := c.upstreams[0].Place(0, "x"), &admission.Slot{Request: admission.Request{Priority: admission.High}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var ticket *admission.Ticket
		for ctx.Err() == nil {
			if ticket == nil {
				if t, ok := admission.Enqueue(slot, true, []admission.Place{place}); ok {
					ticket = t
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		if ticket != nil {
			ticket.Leave()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// Nothing else is held: other endpoints, answers that are no streams, requests for which another pool is left, and upstreams without a
// queue.
func TestOthersAreNotHeld(t *testing.T) {
	for _, tt := range []struct {
		name, path, body string
		queue            admission.Config
		status           int
	}{
		{"chat", "/v1/chat/completions", chat("m", true), admission.Config{Size: 1}, 429},
		{"messages", "/v1/messages", messages("m", true), admission.Config{Size: 1}, 429},
		{"a whole response", "/v1/responses", responseWhole, admission.Config{Size: 1}, 429},
		{"no queue", "/v1/responses", responseStream, admission.Config{}, 503},
		{"another pool", "/v1/responses", strings.Replace(responseStream, `"m"`, `"both"`, 1), admission.Config{Size: 1}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, tt.queue, "both u/x | other/x")
				defer c.free()
				began := time.Now()
				got := c.post(tt.path, tt.body)
				if got.status != tt.status || time.Since(began) > 0 {
					t.Errorf("status %d after %s: %s", got.status, time.Since(began), got.body)
				}
				if route := got.header.Get("X-Llm-Route"); tt.status == 200 && route != "spill" {
					t.Errorf("route %q", route)
				}
			})
		})
	}
}

// The number of held requests is bounded, and one whose client leaves no longer counts.
func TestHeldRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, admission.Config{Size: 1})
		ctx, leave := context.WithCancel(context.Background())
		hold := func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server.URL+"/v1/responses", strings.NewReader(responseStream))
			if err != nil {
				t.Error(err)
				return
			}
			if res, err := c.server.Client().Do(req); err == nil {
				res.Body.Close()
			}
		}
		for range 64 {
			go hold()
		}
		synctest.Wait()
		if got := c.post("/v1/responses", responseStream); got.status != 503 || got.header.Get("Retry-After") != "1" {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		leave()
		time.Sleep(2 * time.Second)
		done := make(chan reply)
		go func() { done <- c.post("/v1/responses", responseStream) }()
		synctest.Wait()
		select {
		case got := <-done:
			t.Errorf("it is not held: status %d: %s", got.status, got.body)
		default:
		}
		c.free()
		if got := <-done; got.status != 200 {
			t.Errorf("status %d: %s", got.status, got.body)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		left := map[string]int{}
		for _, rec := range c.records {
			left[fmt.Sprint(rec.Status)]++
		}
		if left["499"] < 64 {
			t.Errorf("statuses %v", left)
		}
	})
}
