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

// What a sound upstream says, to the byte.
const (
	soundStream = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"sound"},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	soundWhole = `{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"sound"},"finish_reason":"stop"}]}`
)

func sound(stream bool) fakellm.Answer {
	if stream {
		return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}}, []byte(soundStream))
	}
	return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(soundWhole))
}

func soundBody(stream bool) string {
	if stream {
		return soundStream
	}
	return soundWhole
}

// A fault is a way to fail before anything was committed.
type fault struct {
	name    string
	answer  fakellm.Answer
	kind    *upstream.Kind
	down    bool
	verdict router.Verdict
	only    string // "stream" or "whole", where it exists in one of them only
	// As the last target: how often it is asked, and what the client is told.
	tries  int
	status int
	told   string // the error's members
}

func told(message, typ, param, code string) string {
	orNull := func(s string) string {
		if s == "" {
			return "null"
		}
		return `"` + s + `"`
	}
	return `{"error":{"message":"` + message + `","type":"` + typ + `","param":` + orNull(param) + `,"code":` + orNull(code) + `}}`
}

var (
	toldNotUp  = told(`The upstream \"a\" cannot be reached, or is still loading its model. Try again in a moment.`, "server_error", "", "no_upstream_available")
	toldBusy   = told(`The upstream \"a\" is overloaded. Try again in a moment.`, "server_error", "", "no_upstream_available")
	toldBroken = told(`The upstream \"a\" failed before it answered.`, "server_error", "", "upstream_error")
	toldSlow   = told(`The upstream \"a\" did not begin to answer in time.`, "server_error", "", "upstream_timeout")
)

var faults = []fault{
	{name: "refused", down: true, verdict: router.NotUp, tries: 3, status: 503, told: toldNotUp},
	{name: "loading", kind: upstream.OpenAI, answer: fakellm.Raw(503, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`)), verdict: router.NotUp, tries: 3, status: 503, told: toldNotUp},
	{name: "busy", answer: fakellm.Busy(), verdict: router.Busy, tries: 3, status: 503, told: toldBusy},
	{name: "rate limited for long", answer: fakellm.RateLimited().With("Retry-After", "60"), verdict: router.Busy, tries: 1, status: 429, told: told(`The upstream \"a\" has reached its limit. Try again later.`, "rate_limit_error", "", "rate_limit_exceeded")},
	{name: "too long", answer: raw(400, told("too long", "invalid_request_error", "messages", "context_length_exceeded")), verdict: router.FitsElsewhere, tries: 1, status: 400, told: told("too long", "invalid_request_error", "messages", "context_length_exceeded")},
	{name: "too much output, twice", answer: raw(400, told("max_tokens: 9000 > 8192, which is the maximum allowed", "invalid_request_error", "", "")), verdict: router.Fixable, tries: 2, status: 400, told: told("max_tokens: 9000 > 8192, which is the maximum allowed", "invalid_request_error", "", "")},
	{name: "internal error", answer: fakellm.InternalError(), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "error inside a 200", answer: fakellm.ErrorInside200(), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "cut at once", answer: fakellm.Text("a").CutAfter(0), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "cut after the role", answer: fakellm.Text("a").RoleFirst().CutAfter(0), only: "stream", verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "dropped in the first event", answer: fakellm.Text("a").DropAfter(0), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "reset", answer: fakellm.Text("a").ResetAfter(0), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "no JSON", answer: fakellm.Garbage(), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "half an event", answer: fakellm.RawEvents(`data: {"choices":[{"index":0,"delta":{"content":"one"}`, "data: [DONE]"), only: "stream", verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "a page in an event", answer: fakellm.RawEvents("data: <html>Bad Gateway</html>"), only: "stream", verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "nothing to read", answer: fakellm.Status(204), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "a coding that nobody asked for", answer: fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"br"}}, []byte("x")), verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "a whole that no stream can be made of", answer: raw(200, `{"choices":[]}`), only: "stream", verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "a stream that nobody asked for", answer: fakellm.Raw(200, http.Header{"Content-Type": {"text/event-stream"}}, []byte(answered)), only: "whole", verdict: router.Broken, tries: 3, status: 502, told: toldBroken},
	{name: "silence", answer: fakellm.Text("a").StallAfter(0), verdict: router.Slow, tries: 1, status: 504, told: toldSlow},
	{name: "pings and nothing else", answer: fakellm.Text("a").StallAfter(0).Pings(20 * time.Millisecond), only: "stream", verdict: router.Slow, tries: 1, status: 504, told: toldSlow},
}

func raw(status int, body string) fakellm.Answer {
	return fakellm.Raw(status, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

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
		if c.MaxConcurrent = 1; f.verdict == router.Slow {
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
		if r := u.Route.Replicas[0]; r.Open() != 0 || r.Waiting() != 0 {
			s.t.Errorf("%s: %d slots are taken, %d wait", u.Name, r.Open(), r.Waiting())
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
		case f.verdict == router.Fixable:
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
		if diff := cmp.Diff(f.told, got.body); diff != "" || got.status != f.status {
			t.Errorf("status %d, want %d %s", got.status, f.status, diff)
		}
		want := fmt.Sprint(f.tries+1) + "; c/z config" + strings.Repeat(", a/x "+f.verdict.String(), f.tries)
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
	brokeOff := "data: " + told(`The upstream \"a\" broke off; the answer is not complete.`, "server_error", "", "upstream_error") + "\n\n"
	for _, test := range []struct {
		name    string
		answer  fakellm.Answer
		verdict router.Verdict
		want    string
	}{
		{"cut", events.CutAfter(1), router.Broken, oneToken + brokeOff},
		{"dropped in an event", events.DropAfter(1), router.Broken, oneToken + brokeOff},
		{"reset", events.ResetAfter(1), router.Broken, oneToken + brokeOff},
		{"silence", events.StallAfter(1), router.Slow, oneToken + "data: " + told(`The upstream \"a\" went silent; the answer is not complete.`, "server_error", "", "upstream_timeout") + "\n\n"},
		{"an error event", fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"error":{"message":"out of memory","type":"x","code":500}}`, "data: [DONE]"), router.Broken, oneToken + "data: " + told("out of memory", "x", "", "500") + "\n\n"},
		{"half an event", fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"choices":[{"index":0,"delta":{"content":"two"}`, strings.TrimSpace(oneToken), "data: [DONE]"), router.Broken, oneToken + brokeOff},
		{"a page in an event", fakellm.RawEvents(strings.TrimSpace(oneToken), "data: <html>Bad Gateway</html>"), router.Broken, oneToken + brokeOff},
		{"text in an error event", fakellm.RawEvents(strings.TrimSpace(oneToken), "event: error\ndata: out of memory"), router.Broken, oneToken + brokeOff},
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
					if test.verdict == router.Slow {
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
		"dropped": fakellm.Raw(200, header, big).DropAfter(3 << 19), "silence": fakellm.Raw(200, header, big).StallAfter(3 << 19),
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
			if rec := s.record(); rec.Verdict != router.Gone {
				t.Errorf("recorded as %s", rec.Verdict)
			}
		})
	}
}
