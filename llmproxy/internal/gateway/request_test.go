package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

func one(t *testing.T, kind string, change func(*upstream.Config)) (*setup, *fakellm.Server) {
	t.Helper()
	k, err := upstream.KindNamed(kind)
	if err != nil {
		t.Fatal(err)
	}
	fake := fakellm.Start(t, kind)
	s := &setup{t: t}
	s.up("u", k, change, fake.URL())
	return s, fake
}

// The upstream must get the client's bytes, but for what was spliced.
func TestBytesStayBytes(t *testing.T) {
	const odd = `{ "messages" : [{"role":"user","content":"caf\u00e9 <&>"}] ,"temperature":0.0, "big":12345678901234567890,"model":"m"  ,"unknown":{"b":1,"a":[ ]}, "stop":"END"}`
	for _, test := range []struct{ name, kind, send, want string }{
		{"model alone", "openai", odd, strings.Replace(odd, `"m"`, `"real"`, 1)},
		{"usage asked for", "openai", `{"messages":[],"model":"m","stream":true}`, `{"messages":[],"model":"real","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage asked for in the options that are there", "openai", `{"model":"m","stream":true,"stream_options":{"x":1},"messages":[]}`, `{"model":"real","stream":true,"stream_options":{"x":1,"include_usage":true},"messages":[]}`},
		{"ollama's own name for the limit", "ollama", `{"model":"m","max_completion_tokens":5,"messages":[{"role":"user","content":"x"}]}`, `{"model":"real","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`},
		{"and not twice", "ollama", `{"max_tokens":9,"model":"m","max_completion_tokens":5,"messages":[{"role":"user","content":"x"}]}`, `{"model":"real","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, test.kind, func(c *upstream.Config) { c.OpenAI = true })
			s.serve("m u/real")
			if got := s.post("/v1/chat/completions", test.send); got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			if diff := cmp.Diff(test.want, string(fake.Requests()[0].Body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParamsAndDrop(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", func(c *upstream.Config) {
		c.Params = []upstream.Param{{Name: "temperature", Value: []byte("0.2")}, {Name: "top_k", Value: []byte("40")}}
		c.Drop = []string{"user", "stream_options"}
	})
	s.serve("m u")
	s.post("/v1/chat/completions", `{"user":"x","model":"m","temperature":1,"stream":true,"messages":[]}`)
	if diff := cmp.Diff(`{"model":"m","temperature":1,"stream":true,"messages":[],"top_k":40}`, string(fake.Requests()[0].Body)); diff != "" {
		t.Error(diff)
	}
}

// An upstream that is never asked for a stream hears nothing of a stream's options.
func TestDropStream(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", func(c *upstream.Config) { c.Drop = []string{"stream"} })
	got := s.serve("m u").post("/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
	if diff := cmp.Diff(`{"model":"m","messages":[]}`, string(fake.Requests()[0].Body)); diff != "" {
		t.Error(diff)
	}
	if got.status != http.StatusOK || !strings.HasSuffix(got.body, "data: [DONE]\n\n") || !strings.Contains(got.body, `"choices":[],"usage":{`) {
		t.Errorf("status %d, %s", got.status, got.body)
	}
}

func TestUsageIsHiddenFromThoseWhoDidNotAsk(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	s.serve("m u")
	silent := s.post("/v1/chat/completions", chat("m", true))
	asked := s.post("/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
	if strings.Contains(silent.body, `"usage":{`) || !strings.HasSuffix(silent.body, "data: [DONE]\n\n") {
		t.Errorf("not asked: %s", silent.body)
	}
	if !strings.Contains(asked.body, `"usage":{`) {
		t.Errorf("asked: %s", asked.body)
	}
	if rec := s.record(); !rec.HasUsage || rec.Usage.Input == 0 {
		t.Errorf("the record has no usage: %+v", rec.Usage)
	}
}

func TestHeadersGoUpByAllowList(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", func(c *upstream.Config) { c.APIKey = "upstream-secret" })
	s.serve("m u")
	got := s.post("/v1/chat/completions", chat("m", false), "Authorization", "Bearer client-secret", "Cookie", "a=b", "X-Api-Key", "client-secret",
		"OpenAI-Organization", "org", "X-Forwarded-For", "10.1.1.1", "Origin", "http://evil", "OpenAI-Beta", "assistants=v2", "X-Request-Id", "my-id")
	seen := fake.Requests()[0].Header
	want := http.Header{
		"Authorization": {"Bearer upstream-secret"}, "Openai-Beta": {"assistants=v2"}, "X-Request-Id": {"my-id"}, "Content-Type": {"application/json"},
		"Accept-Encoding": {"identity"}, "User-Agent": {"caddy-llmproxy"}, "Content-Length": seen["Content-Length"],
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if got.header.Get("X-Request-Id") != "my-id" {
		t.Errorf("the client got the id %q", got.header.Get("X-Request-Id"))
	}
}

func TestWrongMethodAndClosedPaths(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	s.serve("m u")
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/chat/completions", 405},
		{"DELETE", "/v1/models/m", 405},
		{"POST", "/v1/files", 404},
		{"GET", "/v1/files/file-1/content", 404},
		{"GET", "/v1/responses/resp_1", 404},
		{"GET", "/v1/embeddings/", 405}, // the same path
		{"GET", "/v1//models/", 200},
		{"GET", "/v1/models/m/", 200},
		{"POST", "/v1/v1/embeddings", 404},
		{"POST", "/chat/completions", 404},
		{"GET", "/v1/responses/compact", 405},
		{"POST", "/api/pull", 404},
		{"GET", "/v1/filesystem", http.StatusTeapot},
		{"GET", "/", http.StatusTeapot},
	} {
		req, err := http.NewRequest(test.method, s.server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.do(req); got.status != test.status {
			t.Errorf("%s %s: status %d, want %d", test.method, test.path, got.status, test.status)
		}
	}
}

// A client that leaves must stop the upstream, in both modes.
func TestClientGoneStopsTheUpstream(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprint("stream ", stream), func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			if stream {
				fake.Always(fakellm.Text("one", " two").StallAfter(1))
			} else {
				fake.Always(fakellm.Text("one").StallAfter(0))
			}
			s.serve("m u")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(chat("m", stream)))
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			started := make(chan struct{})
			go func() {
				res, err := s.server.Client().Do(req)
				if err == nil {
					close(started)
					_, err = bufio.NewReader(res.Body).ReadString(0)
					res.Body.Close()
				}
				failed <- err
			}()
			seen := fake.Wait(t, 1)
			if stream {
				<-started
			}
			cancel()
			seen[0].WaitDone(t)
			if !seen[0].Canceled() {
				t.Error("the upstream was not told that the client left")
			}
			<-failed
			if rec := s.record(); rec.Status != exchange.StatusClientClosed {
				t.Errorf("status %d in the record", rec.Status)
			}
		})
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	live := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b", "org/model:q4"))
	s := &setup{t: t}
	s.up("gpu", upstream.Ollama, nil, live.URL())
	s.config.Discover = true
	s.serve("local gpu/llama3.1:8b")
	req, _ := http.NewRequest(http.MethodGet, s.server.URL+"/v1/models", nil)
	got := s.do(req)
	for _, id := range []string{`"local"`, `"llama3.1:8b"`, `"org/model:q4"`} {
		if !strings.Contains(got.body, `"id":`+id) {
			t.Errorf("%s is not in %s", id, got.body)
		}
	}
	for path, status := range map[string]int{"/v1/models/org/model:q4": 200, "/v1/models/org%2Fmodel:q4": 200, "/v1/models/none": 404} {
		req, _ := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
		if got := s.do(req); got.status != status {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	if got := s.post("/v1/chat/completions", chat("org/model:q4", false)); got.status != 200 || got.header.Get("X-Llm-Target") != "gpu/org/model:q4" || got.header.Get("X-Llm-Route") != "discover" {
		t.Errorf("status %d, target %q, route %q", got.status, got.header.Get("X-Llm-Target"), got.header.Get("X-Llm-Route"))
	}
}

func TestDrainingEndsStreamsWithAnError(t *testing.T) {
	t.Parallel()
	ctx, drain := context.WithCancel(context.Background())
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Text("one", " two").StallAfter(1))
	s.config.Draining = ctx
	var failed []exchange.Attempt
	s.config.Observe = func(_ *exchange.Record, a exchange.Attempt) { failed = append(failed, a) }
	s.serve("m u")
	res, err := s.server.Client().Post(s.server.URL+"/v1/chat/completions", "application/json", strings.NewReader(chat("m", true)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	drain() // the header is here, so the answer is committed to
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: res.StatusCode, body: string(body)}
	if !strings.Contains(got.body, "shutting down") || strings.Contains(got.body, "[DONE]") {
		t.Errorf("status %d, body %s", got.status, got.body)
	}
	if s.record(); len(failed) != 1 || !failed[0].Blameless {
		t.Errorf("the upstream is blamed: %+v", failed)
	}
}

func TestEchoAndAuto(t *testing.T) {
	t.Parallel()
	s := &setup{t: t}
	s.up("echo", upstream.Echo, nil)
	s.config.Discover, s.config.Auto = true, true
	s.serve()
	for _, stream := range []bool{false, true} {
		got := s.post("/v1/chat/completions", chat("auto", stream))
		if got.status != 200 || !strings.Contains(got.body, "echo upstream") && !strings.Contains(got.body, `"content":"echo `) {
			t.Errorf("status %d, body %s", got.status, got.body)
		}
		if strings.Count(got.body, `"role":"assistant"`) != 1 { // OpenAI's Node SDK asks for it
			t.Errorf("stream %v: not one role in %s", stream, got.body)
		}
	}
}
