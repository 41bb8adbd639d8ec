package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// simpleSetup starts a gateway whose simple chat is answered by an upstream of some kind, after one that may fail.
func simpleSetup(t *testing.T, kind *upstream.Kind) (s *setup, first, second *fakellm.Server) {
	t.Helper()
	first, second = fakellm.Start(t, "openai"), fakellm.Start(t, kind.Name)
	s = &setup{t: t}
	s.config.SimpleChat = "m"
	s.up("first", upstream.OpenAI, nil, first.URL())
	s.up("second", kind, nil, second.URL())
	return s.serve("m first/x|second/y"), first, second
}

// The simple chat is answered by every kind of upstream, and its requests can fail over.
func TestSimpleChat(t *testing.T) {
	t.Parallel()
	for _, kind := range []*upstream.Kind{upstream.OpenAI, upstream.Ollama, upstream.LlamaCpp, upstream.VLLM, upstream.Anthropic} {
		for path, want := range map[string]string{
			"/chat":        `{"response":"Hel\nlo"}`,
			"/chat/stream": "data: Hel\ndata: \n\ndata: lo\n\ndata: [DONE]\n\n",
		} {
			t.Run(kind.Name+path, func(t *testing.T) {
				t.Parallel()
				s, first, second := simpleSetup(t, kind)
				first.Always(fakellm.Busy())
				second.Always(fakellm.Text("Hel\n", "lo").Usage(30, 5, 20))
				got := s.post(path, `{"message":"Hi","max_tokens":7,"session":[1]}`)
				body := strings.ReplaceAll(got.body, ": ping\n\n", "") // Anthropic's API sends one
				if got.status != http.StatusOK || body != want || got.header.Get("X-Llm-Target") != "second/y" {
					t.Errorf("status %d, %v: %q, want %q", got.status, got.header, got.body, want)
				}
				if contentType, _, _ := strings.Cut(got.header.Get("Content-Type"), ";"); contentType != map[string]string{"/chat": "application/json", "/chat/stream": "text/event-stream"}[path] {
					t.Errorf("Content-Type %s", contentType)
				}
				sent := string(second.Requests()[0].Body)
				limit := `_tokens":7`
				if kind == upstream.Ollama {
					limit = `"num_predict":7`
				}
				if !strings.Contains(sent, limit) || !strings.Contains(sent, `"Hi"`) || strings.Contains(sent, "session") {
					t.Errorf("the upstream got %s", sent)
				}
				rec := s.record()
				if diff := cmp.Diff(tokens.Usage{Input: 30, Output: 5, Cached: 20}, rec.Usage); diff != "" && kind != upstream.Ollama || rec.Verdict != router.OK {
					t.Errorf("%s, %s", rec.Verdict, diff)
				}
				if rec.Endpoint != "simple_chat" || rec.Model != "m" || rec.Stream != (path == "/chat/stream") || rec.Bytes != int64(len(got.body)) {
					t.Errorf("the record has %s, %s, %v, %d bytes", rec.Endpoint, rec.Model, rec.Stream, rec.Bytes)
				}
			})
		}
	}
}

// Errors have FastAPI's form.
func TestSimpleChatErrors(t *testing.T) {
	t.Parallel()
	const message = `{"message":"Hi"}`
	for _, test := range []struct {
		name, method, path, body string
		answer                   fakellm.Answer
		status                   int
		want                     string
	}{
		{"no JSON", "POST", "/chat", `message=Hi`, fakellm.Text("a"), 400, "The request body is not a JSON object"},
		{"no message", "POST", "/chat", `{}`, fakellm.Text("a"), 422, `\"message\" is missing`},
		{"empty message", "POST", "/chat/stream", `{"message":""}`, fakellm.Text("a"), 422, `\"message\" is empty.`},
		{"message of a wrong type", "POST", "/chat", `{"message":["Hi"]}`, fakellm.Text("a"), 422, `\"message\" must be a string`},
		{"two messages", "POST", "/chat", `{"message":"a","message":"b"}`, fakellm.Text("a"), 422, `\"message\" is there twice`},
		{"limit of a wrong type", "POST", "/chat/stream", `{"message":"a","max_tokens":"b"}`, fakellm.Text("a"), 422, `\"max_tokens\" must be a whole number`},
		{"too large", "POST", "/chat", `{"message":"` + strings.Repeat("x", 70<<10) + `"}`, fakellm.Text("a"), 413, "The request body is larger than 65536 bytes"},
		{"GET", "GET", "/chat", "", fakellm.Text("a"), 405, "The method GET is not allowed at /chat; use POST."},
		{"a form", "POST", "/chat", "", fakellm.Text("a"), 415, "send application/json"},
		{"an upstream that is overloaded", "POST", "/chat", message, fakellm.Busy(), 503, `The upstream \"gpu\" is overloaded`},
		{"an upstream that fails", "POST", "/chat/stream", message, fakellm.InternalError(), 502, `The upstream \"gpu\" failed before it answered`},
		{"an upstream that has reached its limit", "POST", "/chat/stream", message, fakellm.RateLimited(), 429, "has reached its limit"},
		{"a request that is refused", "POST", "/chat", message, fakellm.TooLong(), 400, "This model's maximum context length is 4096 tokens."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "openai")
			fake.Always(test.answer)
			s := &setup{t: t}
			s.config.SimpleChat, s.config.MaxBody = "m", 64<<10
			s.up("gpu", upstream.OpenAI, nil, fake.URL())
			s.serve("m gpu/x")
			req, err := http.NewRequest(test.method, s.server.URL+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if test.status == 415 {
				req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
			}
			got := s.do(req)
			if got.status != test.status || !strings.HasPrefix(got.body, `{"detail":"`) || !strings.Contains(got.body, test.want) || !strings.HasSuffix(got.body, `"}`) {
				t.Errorf("status %d: %s\nwant %d: %s", got.status, got.body, test.status, test.want)
			}
			if got.header.Get("Content-Type") != "application/json" {
				t.Errorf("header %v", got.header)
			}
		})
	}
}

// An upstream that is down is status 503.
func TestSimpleChatWithoutUpstream(t *testing.T) {
	t.Parallel()
	s, first, second := simpleSetup(t, upstream.OpenAI)
	first.Down()
	second.Down()
	for _, path := range []string{"/chat", "/chat/stream"} {
		if got := s.post(path, `{"message":"Hi"}`); got.status != 503 || !strings.HasPrefix(got.body, `{"detail":"`) || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, %v: %s", path, got.status, got.header, got.body)
		}
	}
}

// A stream that fails after it has begun ends with an event error, and its connection is aborted, so that a client cannot take the end for
// that of the answer.
func TestSimpleStreamFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		want   string
	}{
		{"cut", fakellm.Text("a", "b").CutAfter(1), `The upstream \"second\" broke off`},
		{"the upstream's error", fakellm.Text("a", "b").ErrorEventAfter(1), `The server had an error`},
		{"no finish", fakellm.Text("a", "b").NoFinish().NoDone(), `The upstream \"second\" broke off`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, first, second := simpleSetup(t, upstream.OpenAI)
			first.Always(fakellm.Busy())
			second.Always(test.answer)
			got := s.post("/chat/stream", `{"message":"Hi"}`)
			text, event, found := strings.Cut(got.body, "event: error\ndata:")
			if got.status != 200 || !found || !strings.HasPrefix(text, "data: a\n\n") || !strings.HasPrefix(event, `{"detail":"`) ||
				!strings.Contains(event, test.want) || !strings.HasSuffix(event, "\"}\n\n") {
				t.Errorf("status %d: %q", got.status, got.body)
			}
			if got.err != io.ErrUnexpectedEOF {
				t.Errorf("reading ended with %v, want that the connection was aborted", got.err)
			}
			if rec := s.record(); rec.Verdict != router.Failed || rec.Err == nil || rec.Bytes != int64(len(got.body)) {
				t.Errorf("the record has %s, %v, %d bytes", rec.Verdict, rec.Err, rec.Bytes)
			}
		})
	}
}

// While a client waits for its stream, it gets comments. A failure after them is an event, too.
func TestSimpleStreamPings(t *testing.T) {
	for _, test := range []struct {
		name     string
		upstream slow
		want     string
		err      error
	}{
		{"an answer", slow{40 * time.Second, answered, "text/event-stream"}, ": ping\n\n: ping\n\ndata: Hi\n\ndata: [DONE]\n\n", nil},
		{"silence", slow{time.Hour, "", "text/event-stream"}, ": ping\n\n: ping\n\n: ping\n\nevent: error\ndata:{\"detail\":\"The upstream \\\"u\\\" did not begin to answer in time.\"}\n\n", io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &setup{t: t, bubble: new(bubble)}
				s.config.SimpleChat = "m"
				s.up("u", upstream.OpenAI, func(c *upstream.Config) {
					c.Transport, c.Timers.FirstToken = test.upstream, 50*time.Second
				}, "http://upstream")
				s.serve("m u")
				got := s.post("/chat/stream", `{"message":"Hi"}`)
				if got.body != test.want || got.err != test.err {
					t.Errorf("got %q, %v", got.body, got.err)
				}
			})
		})
	}
}

// The cache has one answer for the simple chat and for OpenAI's clients.
func TestSimpleChatIsCached(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.config.SimpleChat, s.config.Cache = "m", rules(t, nil)
	s.up("u", upstream.OpenAI, nil, fake.URL())
	s.serve("m u/x")
	fake.Next(fakellm.Text("one"), fakellm.Text("two"))
	for i, request := range []struct{ path, body, cache, want string }{
		{"/chat", `{"message":"Hi"}`, "miss", `{"response":"one"}`},
		{"/chat/stream", `{"message":"Hi"}`, "hit", "data: one\n\ndata: [DONE]\n\n"},
		{chatPath, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, "hit", `"content":"one"`},
	} {
		if got := s.settled(request.path, request.body); got.cache() != request.cache || !strings.Contains(got.body, request.want) {
			t.Errorf("%d: %s: %s", i, got.cache(), got.body)
		}
	}
}

// The paths are served if there is a simple chat, and only then.
func TestSimpleChatPaths(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path       string
		configured bool
		ours       bool
	}{
		{"/chat", true, true},
		{"/chat/stream", true, true},
		{"/chat/", true, true},
		{"//chat//Stream", true, true},
		{"/chat/other", true, false},
		{"/chats", true, false},
		{"/v1/chat", true, false},
		{"/chat", false, false},
		{"/chat/stream", false, false},
	} {
		g := &Gateway{}
		if test.configured {
			g.SimpleChat = "m"
		}
		for _, webSocket := range []bool{false, true} {
			req, err := http.NewRequest(http.MethodPost, "http://site"+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if webSocket {
				req.Header.Set("Upgrade", "websocket")
			}
			task, claim := g.Match(req)
			if test.path == "/v1/chat" { // probably meant for the API
				claim = NotOurs
			}
			if (claim == Ours) != test.ours || test.ours && task.upgrade != webSocket {
				t.Errorf("%s, configured: %v, WebSocket: %v: claim %d, task %+v", test.path, test.configured, webSocket, claim, task)
			}
		}
	}
}
