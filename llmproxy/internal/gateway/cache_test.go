package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

const chatPath, embedPath = "/v1/chat/completions", "/v1/embeddings"

// cached starts a gateway with a cache in front of a scripted upstream.
func cached(t *testing.T, change func(*answercache.Cache)) (*setup, *fakellm.Server) {
	t.Helper()
	fake := fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.config.Cache = rules(t, change)
	s.up("a", upstream.OpenAI, func(c *upstream.Config) {
		c.Timers = upstream.Timers{FirstToken: time.Hour, Idle: time.Hour} // ten thousand at once may keep a busy machine for minutes
	}, fake.URL())
	return s.serve("m a/x", "m2 a/x", "embed a/text-embedding-3-small"), fake
}

func rules(t *testing.T, change func(*answercache.Cache)) *answercache.Cache {
	shared := caching.New(64 << 20)
	t.Cleanup(shared.Close)
	c := &answercache.Cache{
		Shared: shared, Store: shared.Memory, TTL: time.Hour, MaxTTL: 24 * time.Hour, MaxEntry: 4 << 20, MaxSize: 64 << 20,
		Endpoints: map[string]bool{"chat": true, "completions": true, "embeddings": true, "responses": true, "moderations": true, "rerank": true},
	}
	if change != nil {
		change(c)
	}
	return c
}

// settled posts, and waits for the handler to end: the answer is kept then.
func (s *setup) settled(path, body string, header ...string) reply {
	s.t.Helper()
	s.mu.Lock()
	before := len(s.records)
	s.mu.Unlock()
	got := s.post(path, body, header...)
	until(s.t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.records) > before })
	return got
}

func (r reply) cache() string { return r.header.Get("X-Llm-Cache") }

func TestAHitIsTheSameAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, path, body string }{
		{"chat", chatPath, chat("m", false)},
		{"chat stream", chatPath, chat("m", true)},
		{"chat stream with usage", chatPath, `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}`},
		{"completion", "/v1/completions", `{"model":"m","prompt":"x"}`},
		{"completion stream", "/v1/completions", `{"model":"m","prompt":"x","stream":true}`},
		{"responses", "/v1/responses", `{"model":"m","input":"x","store":false}`},
		{"responses stream", "/v1/responses", `{"model":"m","input":"x","store":false,"stream":true}`},
		{"embeddings", embedPath, `{"model":"embed","input":"x"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := cached(t, nil)
			first := s.settled(test.path, test.body)
			second := s.settled(test.path, test.body)
			if first.status != 200 || first.cache() != "miss" || second.status != 200 || second.cache() != "hit" {
				t.Fatalf("%d %q, then %d %q: %s", first.status, first.cache(), second.status, second.cache(), second.body)
			}
			if test.name == "embeddings" { // put together from items: the order of keys may differ
				if a, b := decodedJSON(t, first.body), decodedJSON(t, second.body); !cmp.Equal(a, b) {
					t.Error(cmp.Diff(a, b))
				}
			} else if diff := cmp.Diff(first.body, second.body); diff != "" {
				t.Error(diff)
			}
			if n := len(fake.Requests()); n != 1 {
				t.Errorf("%d requests reached the upstream", n)
			}
			if second.header.Get("Age") != "0" || second.header.Get("X-Llm-Target") != first.header.Get("X-Llm-Target") || second.header.Get("X-Llm-Attempts") != "0" {
				t.Errorf("header: %v", second.header)
			}
			rec := s.record()
			if rec.Cache != "hit" || rec.HasUsage || rec.Usage.Input != 0 || rec.SavedInput == 0 || len(rec.Attempts) != 0 || rec.Status != 200 {
				t.Errorf("record: %+v", rec)
			}
		})
	}
}

func decodedJSON(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// A stream serves a request without one, and the other way round.
func TestEitherWayRound(t *testing.T) {
	t.Parallel()
	withUsage := `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}`
	for _, test := range []struct{ name, path, first, second, want, not string }{
		{"stream, then whole", chatPath, chat("m", true), chat("m", false), `"message":\{"role":"assistant","content":"Hello world".*"usage":\{"prompt`, "data:"},
		{"whole, then stream", chatPath, chat("m", false), chat("m", true), `(?s)^data: .*chat.completion.chunk.*"content":"Hello world".*"finish_reason":"stop".*data: \[DONE\]\n\n$`, `"usage":{`},
		{"whole, then stream with usage", chatPath, chat("m", false), withUsage, `(?s)"choices":\[\],"usage":\{.*data: \[DONE\]\n\n$`, "xyz"},
		{"stream with usage, then without", chatPath, withUsage, chat("m", true), `(?s)data: \[DONE\]\n\n$`, `"usage":{`},
		{"stream without usage, then with", chatPath, chat("m", true), withUsage, `(?s)"choices":\[\].*"usage":\{.*data: \[DONE\]\n\n$`, "xyz"},
		{"completion", "/v1/completions", `{"model":"m","prompt":"p","stream":true}`, `{"model":"m","prompt":"p"}`, `"text":"Hello world"`, "data:"},
		{"response", "/v1/responses", `{"model":"m","input":"p","store":false,"stream":true}`, `{"model":"m","input":"p","store":false}`, `"status":"completed"`, "data:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := cached(t, nil)
			fake.Always(fakellm.Text("Hello", " world"))
			first := s.settled(test.path, test.first)
			second := s.settled(test.path, test.second)
			if first.cache() != "miss" || second.cache() != "hit" {
				t.Fatalf("%q, then %q", first.cache(), second.cache())
			}
			if !regexp.MustCompile(test.want).MatchString(second.body) || strings.Contains(second.body, test.not) {
				t.Errorf("%s", second.body)
			}
			if strings.Contains(first.body, `"choices":[],"usage":{`) != strings.Contains(test.first, "include_usage") && strings.Contains(test.first, "messages") && strings.Contains(test.first, "stream") {
				t.Errorf("the first client got a usage that it did not ask for, or none: %s", first.body)
			}
		})
	}
}

// Streams in odd forms are stored as they are. What a whole request gets of them is valid JSON, with what clients rely on.
func TestOddStreamsAsWholeAnswers(t *testing.T) {
	t.Parallel()
	const head = `"id":"c","object":"chat.completion.chunk","created":1,"model":"x"`
	for _, test := range []struct{ name, choices, more, want string }{
		{"a tool call without members", `{"index":0,"delta":{"tool_calls":[{"index":0,"function":{}}]}}`, "",
			`{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"","arguments":""}}]}`},
		{"a second call that is only announced", `{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"index":1}]}}`, "",
			`{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"type":"function","function":{"name":"","arguments":""}}]}`},
		{"an empty delta", `{"index":0,"delta":{}}`, "", `{"role":"assistant","content":null}`},
		{"no delta", `{"index":0}`, "", `{"role":"assistant","content":null}`},
		{"a space in log probabilities", `{"index":0,"delta":{"content":"a"},"logprobs":{"content":[ ]}}`, `{"index":0,"delta":{},"logprobs":{"content":[{"token":"a"}]}}`, `{"role":"assistant","content":"a"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for _, choice := range []string{test.choices, test.more, `{"index":0,"delta":{},"finish_reason":"stop"}`} {
					if choice != "" {
						fmt.Fprintf(w, "data: {%s,\"choices\":[%s]}\n\n", head, choice)
					}
				}
				io.WriteString(w, "data: [DONE]\n\n") //nolint:errcheck // the test sees it
			}))
			t.Cleanup(server.Close)
			s := &setup{t: t}
			s.config.Cache = rules(t, nil)
			s.up("a", upstream.OpenAI, nil, server.URL)
			s.serve("m a/x")
			s.settled(chatPath, chat("m", true))
			got := s.settled(chatPath, chat("m", false))
			var answer struct {
				Choices []struct{ Message any }
			}
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.cache() != "hit" || len(answer.Choices) != 1 {
				t.Fatalf("%q, %v: %s", got.cache(), err, got.body)
			}
			if diff := cmp.Diff(decodedJSON(t, test.want), answer.Choices[0].Message); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNotShared(t *testing.T) {
	t.Parallel()
	base := `{"model":"m","messages":[{"role":"user","content":"Hi"}],"seed":1}`
	for _, test := range []struct {
		name, first, second string
		header              []string
		want                string // of the second
	}{
		{"the same", base, base, nil, "hit"},
		{"other order and spelling", base, `{"seed":1.0, "messages":[{"content":"\u0048i","role":"user"}],"model":"m"}`, nil, "hit"},
		{"another user", base, `{"model":"m","messages":[{"role":"user","content":"Hi"}],"seed":1,"user":"u","metadata":{"a":"b"},"service_tier":"flex"}`, nil, "hit"},
		{"another value", base, strings.Replace(base, "1}", "2}", 1), nil, "miss"},
		{"a member more", base, strings.Replace(base, "1}", `1,"vendor":null}`, 1), nil, "miss"},
		{"another name for the same target", base, strings.Replace(base, `"m"`, `"m2"`, 1), nil, "miss"},
		{"a beta", base, base, []string{"OpenAI-Beta", "x"}, "miss"},
		{"a header that varies", base, base, []string{"X-Team", "x"}, "miss"},
		{"a header that does not", base, base, []string{"X-Other", "x"}, "hit"},
		{"no-cache", base, base, []string{"Cache-Control", "no-cache"}, "miss"},
		{"max-age=0", base, base, []string{"Cache-Control", "max-age=0"}, "miss"},
		{"max-age", base, base, []string{"Cache-Control", "max-age=60"}, "hit"},
		{"no-store", base, base, []string{"Cache-Control", "no-store"}, "bypass"},
		{"only-if-cached", base, base, []string{"Cache-Control", "only-if-cached"}, "hit"},
		{"stored", strings.Replace(base, "1}", `1,"store":true}`, 1), strings.Replace(base, "1}", `1,"store":true}`, 1), nil, "bypass"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, _ := cached(t, func(c *answercache.Cache) { c.Vary = []string{"X-Team"} })
			s.settled(chatPath, test.first)
			if got := s.settled(chatPath, test.second, test.header...); got.cache() != test.want || got.status != 200 {
				t.Errorf("%d %q: %s", got.status, got.cache(), got.body)
			}
		})
	}
}

// Answers of tools that run at the service are not stored either if the configuration turns these tools on.
func TestHostedByConfiguration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, model, param, value, path, body, want string
	}{
		{"a usual parameter", "m u/x", "temperature", "0", chatPath, chat("m", false), "hit"},
		{"the name of a model in another path", "m u/x:online", "", "", embedPath, `{"model":"m","input":"x"}`, "hit"},
		{"a target that searches", "m u/gpt-4o:online", "", "", chatPath, chat("m", false), "bypass"},
		{"a model that searches", "gpt-4o:online u", "", "", chatPath, chat("gpt-4o:online", true), "bypass"},
		{"a plugin", "m u/x", "plugins", `[{"id":"web"}]`, chatPath, chat("m", false), "bypass"},
		{"a hosted tool", "m u/x", "tools", ` [{"googleSearch":{}}]`, chatPath, chat("m", false), "bypass"},
		{"a function", "m u/x", "tools", `[{"type":"function","function":{"name":"f"}}]`, chatPath, chat("m", false), "hit"},
		{"a hosted tool that the request replaces", "m u/x", "tools", `[{"googleSearch":{}}]`, chatPath, `{"model":"m","messages":[],"tools":[]}`, "hit"},
		{"a search that is off", "m u/x", "enable_search", "false", chatPath, chat("m", false), "hit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{t: t}
			s.config.Cache = rules(t, nil)
			s.up("u", upstream.OpenAI, func(c *upstream.Config) {
				if test.param != "" {
					c.Params = []upstream.Param{{Name: test.param, Value: []byte(test.value)}}
				}
			}, fakellm.Start(t, "openai").URL())
			s.serve(test.model)
			s.settled(test.path, test.body)
			if got := s.settled(test.path, test.body); got.status != 200 || got.cache() != test.want {
				t.Errorf("%d %q, want %q: %s", got.status, got.cache(), test.want, got.body)
			}
		})
	}
}

// Two caches in one store share what is of one name.
func TestNamesKeepCachesApart(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "hit", "other": "miss"} {
		first, fake := cached(t, nil)
		first.settled(chatPath, chat("m", false))
		rules := *first.config.Cache
		rules.Name = name
		second := &setup{t: t, config: Config{Cache: &rules}}
		second.up("a", upstream.OpenAI, nil, fake.URL())
		second.serve("m a/x")
		if got := second.settled(chatPath, chat("m", false)); got.cache() != want {
			t.Errorf("the name %q: %q, want %q", name, got.cache(), want)
		}
	}
}

func TestControls(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	if got := s.settled(chatPath, chat("m", false), "Cache-Control", "only-if-cached"); got.status != 504 || !strings.Contains(got.body, `"code":"not_cached"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := s.settled(chatPath, `{"model":"m","store":true,"messages":[]}`, "Cache-Control", "only-if-cached"); got.status != 504 || got.cache() != "bypass" {
		t.Errorf("%d %q", got.status, got.cache())
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("only-if-cached reached the upstream %d times", n)
	}
	if got := s.settled(chatPath, chat("m", false), "X-LLM-Cache-TTL", "soon"); got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
	s.settled(chatPath, chat("m", false), "X-LLM-Cache-TTL", "0")
	if got := s.settled(chatPath, chat("m", false), "Cache-Control", "no-store"); got.cache() != "bypass" {
		t.Errorf("%q", got.cache())
	}
	if got := s.settled(chatPath, chat("m", false), "Cache-Control", "no-cache"); got.cache() != "miss" {
		t.Errorf("%q: a TTL of 0 and no-store must not keep anything", got.cache())
	}
	if got := s.settled(chatPath, chat("m", false)); got.cache() != "hit" {
		t.Errorf("%q: no-cache must keep the answer", got.cache())
	}
}

func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		change func(*answercache.Cache)
		path   string
		body   string
		want   string // of the second
	}{
		{"length", fakellm.Text("a").Finish("length"), nil, chatPath, chat("m", true), "miss"},
		{"length, if wanted", fakellm.Text("a").Finish("length"), func(c *answercache.Cache) { c.KeepCut = true }, chatPath, chat("m", true), "hit"},
		{"filtered", fakellm.Text("a").Finish("content_filter"), func(c *answercache.Cache) { c.KeepCut = true }, chatPath, chat("m", false), "miss"},
		{"cut", fakellm.Text("a", "b").CutAfter(1), nil, chatPath, chat("m", true), "miss"},
		{"error event", fakellm.Text("a", "b").ErrorEventAfter(1), nil, chatPath, chat("m", true), "miss"},
		{"no finish but [DONE]", fakellm.Text("a", "b").NoFinish(), nil, chatPath, chat("m", true), "miss"},
		{"error", fakellm.InternalError(), nil, chatPath, chat("m", false), "miss"},
		{"too large", fakellm.Text(strings.Repeat("x", 5000)), func(c *answercache.Cache) { c.MaxEntry = 4000 }, chatPath, chat("m", false), "miss"},
		{"sampled", fakellm.Text("a"), func(c *answercache.Cache) { c.DeterministicOnly = true }, chatPath, chat("m", false), "bypass"},
		{"not sampled", fakellm.Text("a"), func(c *answercache.Cache) { c.DeterministicOnly = true }, chatPath, `{"model":"m","messages":[],"temperature":0}`, "hit"},
		{"another endpoint", fakellm.Text("a"), func(c *answercache.Cache) { c.Endpoints = map[string]bool{"embeddings": true} }, chatPath, chat("m", false), "bypass"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := cached(t, test.change)
			fake.Always(test.answer)
			s.settled(test.path, test.body)
			if got := s.settled(test.path, test.body); got.cache() != test.want {
				t.Errorf("%d %q: %s", got.status, got.cache(), got.body)
			}
		})
	}
}

// An answer that was brought into another form stays in both, and a new one takes the place of both.
func TestBothFormsAreKept(t *testing.T) {
	t.Parallel()
	const streamed = `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}`
	for _, first := range []string{streamed, chat("m", false)} {
		s, fake := cached(t, nil)
		fake.Next(fakellm.Text("one", " two"), fakellm.Text("three"))
		said := func(want string, n int) {
			t.Helper()
			for range 3 {
				for _, body := range []string{streamed, chat("m", false)} {
					got := s.settled(chatPath, body)
					if got.cache() != "hit" || !strings.Contains(got.body, want) || !strings.Contains(got.body, `"usage"`) || strings.HasPrefix(got.body, "data:") != (body == streamed) {
						t.Errorf("%q: %s", got.cache(), got.body)
					}
				}
			}
			if got := len(fake.Requests()); got != n {
				t.Errorf("%d requests reached the upstream, want %d", got, n)
			}
		}
		s.settled(chatPath, first)
		said("two", 1)
		s.settled(chatPath, first, "Cache-Control", "no-cache")
		said("three", 2)
	}
}

// The answer of one endpoint is not used for another one, even for the same request.
func TestEndpointsShareNothing(t *testing.T) {
	t.Parallel()
	s, _ := cached(t, nil)
	const body = `{"model":"m","messages":[],"prompt":"x","input":"x"}`
	for _, path := range []string{chatPath, "/v1/completions", embedPath, "/v1/moderations", "/v1/rerank"} {
		if got := s.settled(path, body); got.cache() != "miss" {
			t.Errorf("%s: %d %q", path, got.status, got.cache())
		}
	}
}

// One answer for all who ask at the same time, streams and others.
func TestOneFlight(t *testing.T) {
	t.Parallel()
	s, fake := cached(t, nil)
	gate := make(chan struct{})
	fake.Always(fakellm.Text("Hello", " world").HoldAfter(1, gate))
	const clients = 100
	replies := make([]reply, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { replies[i] = s.post(chatPath, chat("m", i%2 == 0)) })
	}
	until(t, func() bool { return len(fake.Requests()) >= 1 && s.config.Cache.Shared.Counts.Misses.Load() == 1 })
	close(gate)
	all.Wait()
	count := map[string]int{}
	for i, got := range replies {
		count[got.cache()]++
		if got.status != 200 || !strings.Contains(got.body, "world") || strings.HasPrefix(got.body, "data:") != (i%2 == 0) {
			t.Errorf("%d: %d %s", i, got.status, got.body)
		}
	}
	if n := len(fake.Requests()); n != 1 || count["miss"] != 1 || count["coalesced"]+count["hit"] != clients-1 {
		t.Errorf("%d requests reached the upstream; %v", n, count)
	}
}
