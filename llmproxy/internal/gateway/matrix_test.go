package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// each runs a test for every fault, as a stream and not.
func each(t *testing.T, test func(t *testing.T, f fault, stream bool)) {
	for _, f := range faults {
		for _, stream := range []bool{true, false} {
			form := map[bool]string{true: "stream", false: "whole"}[stream]
			if f.only != "" && f.only != form {
				continue
			}
			t.Run(f.name+"/"+form, func(t *testing.T) {
				t.Parallel()
				test(t, f, stream)
			})
		}
	}
}

// faulty adds the upstream "a", which has the fault, with one slot.
func (s *setup) faulty(f fault) *fakellm.Server {
	fake := fakellm.Start(s.t, "openai")
	address := fake.URL()
	if fake.Always(f.answer); f.down {
		fake.Down()
	}
	s.up("a", upstream.OpenAI, func(c *upstream.Config) {
		if c.MaxConcurrent = 1; f.verdict == router.Timeout {
			c.Timers = upstream.Timers{FirstToken: time.Second, Total: time.Second}
		}
	}, address)
	return fake
}

// free fails the test if a slot is still taken.
func (s *setup) free() {
	s.t.Helper()
	s.server.Close()
	for _, u := range s.upstreams {
		if r := u.Replicas[0]; r.InFlight() != 0 || r.Waiting() != 0 {
			s.t.Errorf("%s: %d slots are taken, %d wait", u.Name, r.InFlight(), r.Waiting())
		}
	}
}

// Before the commit, at the first target: the client sees the second one's answer, to the byte, and nothing else.
func TestMatrixFirst(t *testing.T) {
	each(t, func(t *testing.T, f fault, stream bool) {
		s := &setup{t: t}
		first, second := s.faulty(f), fakellm.Start(t, "openai")
		second.Always(sound(stream))
		s.up("b", upstream.OpenAI, nil, second.URL())
		s.serve("m a/x | b/y")
		got := s.post("/v1/chat/completions", chat("m", stream))
		if diff := cmp.Diff(soundBody(stream), got.body); diff != "" || got.status != http.StatusOK || got.err != nil {
			t.Errorf("status %d, error %v %s", got.status, got.err, diff)
		}
		if route := got.header.Get("X-Llm-Route"); route != "fallback:"+f.verdict.String() {
			t.Errorf("route %q", route)
		}
		seen := 1
		switch {
		case f.down:
			seen = 0
		case f.verdict == router.Adjustable:
			seen = 2
		}
		if n := len(first.Requests()); n != seen {
			t.Errorf("the first target saw %d requests, want %d", n, seen)
		}
		if n := len(second.Requests()); n != 1 || strings.Contains(string(second.Requests()[0].Body), "max_tokens") {
			t.Errorf("the second target saw %d requests, the last one %s", n, second.Requests()[n-1].Body)
		}
		s.free()
	})
}

// Before the commit, at the last target: one honest error, with all that was tried.
func TestMatrixLast(t *testing.T) {
	each(t, func(t *testing.T, f fault, stream bool) {
		s := &setup{t: t}
		wrong := fakellm.Start(t, "openai")
		wrong.Always(fakellm.Unauthorized())
		s.up("c", upstream.OpenAI, nil, wrong.URL())
		last := s.faulty(f)
		s.serve("m c/z | a/x")
		got := s.post("/v1/chat/completions", chat("m", stream))
		want := f.told
		if stream && f.toldStream != "" {
			want = f.toldStream
		}
		if diff := cmp.Diff(want, got.body); diff != "" || got.status != f.status {
			t.Errorf("status %d, want %d %s", got.status, f.status, diff)
		}
		want = fmt.Sprint(f.tries+1) + "; c/z misconfigured" + strings.Repeat(", a/x "+f.verdict.String(), f.tries)
		if diff := cmp.Diff(want, got.header.Get("X-Llm-Attempts")); diff != "" {
			t.Error(diff)
		}
		if n := len(last.Requests()); !f.down && n != f.tries {
			t.Errorf("it saw %d requests, want %d", n, f.tries)
		}
		s.free()
	})
}

const oneToken = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}` + "\n\n"

// After the commit, first target or last: what came, then one event with the error, no [DONE], and no other target sees the
// request.
func TestMatrixAfterCommit(t *testing.T) {
	events := fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"id":"1","choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}`)
	brokeOff := func(reason string) string {
		return oneToken + "data: " + told(`The upstream \"a\" broke off`+reason+`; the answer is not complete.`, "server_error", "", "upstream_error") + "\n\n"
	}
	for _, test := range []struct {
		name    string
		answer  fakellm.Answer
		verdict router.Verdict
		want    string
	}{
		{"cut", events.CutAfter(1), router.Failed, brokeOff(endedEarly)},
		{"dropped in an event", events.DropAfter(1), router.Failed, brokeOff(endedEarly)},
		{"reset", events.ResetAfter(1), router.Failed, brokeOff(": it reset the connection")},
		{"silence", events.StallAfter(1), router.Timeout, oneToken + "data: " + told(`The upstream \"a\" stopped sending; the answer is not complete.`, "server_error", "", "upstream_timeout") + "\n\n"},
		{"an error event", fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"error":{"message":"out of memory","type":"x","code":500}}`, "data: [DONE]"), router.Failed, oneToken + "data: " + told("out of memory", "x", "", "500") + "\n\n"},
		{"half an event", fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"choices":[{"index":0,"delta":{"content":"two"}`, strings.TrimSpace(oneToken), "data: [DONE]"), router.Failed, brokeOff(noJSON)},
		{"a page in an event", fakellm.RawEvents(strings.TrimSpace(oneToken), "data: <html>Bad Gateway</html>"), router.Failed, brokeOff(noJSON)},
		{"text in an error event", fakellm.RawEvents(strings.TrimSpace(oneToken), "event: error\ndata: out of memory"), router.Failed, brokeOff(noJSON)},
		{"a page behind the finish", fakellm.RawEvents(`data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}`, "data: <html>Bad Gateway</html>"), router.OK, `data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"},
		{"a finish without [DONE]", fakellm.RawEvents(`data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}`), router.OK, `data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"},
	} {
		for _, plan := range []string{"m a/x | b/y", "m c/z | a/x"} {
			t.Run(test.name+"/"+plan, func(t *testing.T) {
				t.Parallel()
				s := &setup{t: t}
				broken, other := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
				broken.Always(test.answer)
				refused := fakellm.Start(t, "openai")
				refused.Always(fakellm.Unauthorized())
				s.up("a", upstream.OpenAI, func(c *upstream.Config) {
					if test.verdict == router.Timeout {
						c.Timers.Idle = time.Second
					}
				}, broken.URL())
				s.up("b", upstream.OpenAI, nil, other.URL())
				s.up("c", upstream.OpenAI, nil, refused.URL())
				s.serve(plan)
				got := s.post("/v1/chat/completions", chat("m", true))
				if diff := cmp.Diff(test.want, got.body); diff != "" || got.status != http.StatusOK {
					t.Errorf("status %d %s", got.status, diff)
				}
				if n := len(other.Requests()); n != 0 {
					t.Errorf("another target got %d requests", n)
				}
				s.free()
				if rec := s.record(); rec.Verdict != test.verdict {
					t.Errorf("recorded as %s", rec.Verdict)
				}
			})
		}
	}
}

// After the commit an answer that is no stream cannot tell: the connection is broken off, so that no client takes it for whole.
func TestMatrixWholeAfterCommit(t *testing.T) {
	big := append(append([]byte(`{"x":"`), bytes.Repeat([]byte("a"), 2<<20)...), `"}`...)
	header := http.Header{"Content-Type": {"application/json"}}
	for name, answer := range map[string]fakellm.Answer{
		"dropped": fakellm.Raw(200, header, big).DropAfter(3 << 19), "dropped, of no known length": fakellm.Raw(200, header, big).DropAfter(3<<19).With("Content-Length", ""),
		"silence": fakellm.Raw(200, header, big).StallAfter(3 << 19),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			broken := fakellm.Start(t, "openai")
			broken.Always(answer)
			s.up("a", upstream.OpenAI, func(c *upstream.Config) {
				if name == "silence" {
					c.Timers.Idle = time.Second
				}
			}, broken.URL())
			s.serve("m a/x")
			if got := s.post("/v1/chat/completions", chat("m", false)); got.status != http.StatusOK || got.err == nil {
				t.Errorf("status %d, and %d bytes without an error", got.status, len(got.body))
			}
			s.free()
		})
	}
}

// A client that leaves stops the upstream, before the commit and after it, stream or not, and nobody else is tried.
func TestMatrixGone(t *testing.T) {
	for name, answer := range map[string]fakellm.Answer{
		"before/stream": fakellm.Text("a").StallAfter(0), "after/stream": fakellm.Text("a", "b").StallAfter(1), "before/whole": fakellm.Text("a").StallAfter(0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			first, second := fakellm.Start(t, "openai"), fakellm.Start(t, "openai")
			first.Always(answer)
			s.up("a", upstream.OpenAI, func(c *upstream.Config) { c.MaxConcurrent = 1 }, first.URL())
			s.up("b", upstream.OpenAI, nil, second.URL())
			s.serve("m a/x | b/y")
			leave := s.start(chat("m", strings.HasSuffix(name, "stream")))
			seen := first.Wait(t, 1)
			leave()
			seen[0].WaitDone(t)
			if !seen[0].Canceled() {
				t.Error("the upstream was not stopped")
			}
			s.free()
			if n := len(second.Requests()); n != 0 {
				t.Errorf("the second target got %d requests", n)
			}
			if rec := s.record(); rec.Verdict != router.ClientClosed {
				t.Errorf("recorded as %s", rec.Verdict)
			}
		})
	}
}
