package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A nativeCase is a request whose feature the server's own Messages API keeps.
type nativeCase struct {
	fake string
	kind *upstream.Kind
	part string // of the request
}

var (
	nativeOllama = nativeCase{"ollama", upstream.Ollama, `"top_k":5,"messages":[{"role":"user","content":"Hi"}]`}
	nativeVLLM   = nativeCase{"vllm", upstream.VLLM, `"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]`}
	nativeLlama  = nativeCase{"llamacpp", upstream.LlamaCpp, `"stop_sequences":["END"],"messages":[{"role":"user","content":"Hi"}]`}
)

func (c nativeCase) body(stream bool, more string) string {
	s := ""
	if stream {
		s = `"stream":true,`
	}
	return `{"model":"m","max_tokens":10,` + s + more + c.part + `}`
}

// start starts the server and a gateway in front of it that knows its version.
func (c nativeCase) start(t *testing.T, change func(*setup), models ...string) (*setup, *fakellm.Server) {
	t.Helper()
	fake := fakellm.Start(t, c.fake, fakellm.Models("x"))
	s := &setup{t: t}
	s.up("u", c.kind, usesOpenAI, fake.URL())
	if change != nil {
		change(s)
	}
	s.serve(append(models, "warm u/x")...)
	until(t, func() bool {
		s.post("/v1/messages", strings.Replace(c.body(false, ""), `"m"`, `"warm"`, 1))
		sent := fake.Requests()
		return sent[len(sent)-1].Path == "/v1/messages"
	})
	return s, fake
}

// usesOpenAI chooses OpenAI's API of an upstream that has another one, too.
func usesOpenAI(c *upstream.Config) { c.OpenAI = true }

// last returns the request that the server received last.
func last(fake *fakellm.Server) fakellm.Request {
	sent := fake.Requests()
	return sent[len(sent)-1]
}

// A server's own Messages API gets what it carries better than its chat API, and what it leaves out of its answers is added.
func TestNativeMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []nativeCase{nativeOllama, nativeVLLM, nativeLlama} {
		t.Run(c.fake, func(t *testing.T) {
			t.Parallel()
			s, fake := c.start(t, nil, "m u/x")
			fake.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 0).StopSequence("END"))
			const system = `"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":"One."},{"type":"text","text":"Two."}],`
			for _, stream := range []bool{false, true} {
				got := s.post("/v1/messages", c.body(stream, system+`"from_the_future":[1.50],`))
				sent := last(fake)
				want := strings.Replace(c.body(stream, `"system":"One.\n\nTwo.","from_the_future":[1.50],`), `"m"`, `"x"`, 1)
				if diff := cmp.Diff(decoded(t, want), decoded(t, string(sent.Body))); sent.Path != "/v1/messages" || diff != "" {
					t.Errorf("%s got -want +got\n%s", sent.Path, diff)
				}
				text, stop := textOf(t, got.body)
				if got.status != 200 || text != "Hello" || stop != "stop_sequence" || !strings.Contains(got.body, `"stop_sequence":"END"`) {
					t.Errorf("status %d, %q, %q: %s", got.status, text, stop, got.body)
				}
				if !strings.Contains(got.body, `"usage":{"input_tokens":30,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":5}`) {
					t.Errorf("usage: %s", got.body)
				}
			}
			rec := s.record()
			if diff := cmp.Diff(tokens.Usage{Input: 30, Output: 5}, rec.Usage); diff != "" || rec.Estimated || rec.Verdict != router.OK {
				t.Errorf("usage %s, verdict %s", diff, rec.Verdict)
			}
		})
	}
}

func decoded(t *testing.T, body string) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// Whatever the server's own Messages API would lose is translated, and so is everything else.
func TestNativeOnlyWithoutLoss(t *testing.T) {
	t.Parallel()
	s, fake := nativeOllama.start(t, nil, "m u/x")
	for name, test := range map[string]struct{ path, body string }{
		"nothing to keep":         {"/v1/messages", messages("m", false)},
		"a schema":                {"/v1/messages", nativeOllama.body(false, `"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}},`)},
		"a client of OpenAI's":    {chatPath, `{"model":"m","top_k":5,"messages":[{"role":"user","content":"Hi"}]}`},
		"several texts in a turn": {"/v1/messages", `{"model":"m","max_tokens":10,"top_k":5,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`},
	} {
		if got := s.post(test.path, test.body); got.status != 200 || last(fake).Path != chatPath {
			t.Errorf("%s: status %d, %s: %s", name, got.status, last(fake).Path, got.body)
		}
	}
}

// An old server, one that does not tell its version, and one with params get the translation.
func TestNativeNeedsItsVersion(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		version fakellm.Answer
		params  []upstream.Param
		own     bool // Ollama's own API is used, which loses nothing that the Messages API keeps
	}{
		"old":      {fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"version":"0.13.5"}`)), nil, false},
		"silent":   {fakellm.Status(404), nil, false},
		"params":   {fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"version":"0.32.15"}`)), []upstream.Param{{Name: "seed", Value: []byte("1")}}, false},
		"no model": {fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"version":"dev"}`)), nil, false},
		"own API":  {fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"version":"0.32.15"}`)), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "ollama", fakellm.Models("x"))
			fake.OnPath("/api/version", test.version)
			s := &setup{t: t}
			s.up("u", upstream.Ollama, func(c *upstream.Config) {
				c.OpenAI = !test.own
				c.Params = test.params
			}, fake.URL())
			s.serve("m u/x")
			asked := func() (n int) {
				for _, p := range fake.Probes() {
					if p.Path == "/api/version" {
						n++
					}
				}
				return n
			}
			s.upstreams[0].RefreshCapabilities()
			until(t, func() bool { return asked() > 0 })
			s.upstreams[0].RefreshCapabilities() // does nothing before the first one has ended
			for range 3 {
				if got := s.post("/v1/messages", nativeOllama.body(false, "")); got.status != 200 || last(fake).Path == "/v1/messages" {
					t.Errorf("status %d, %s: %s", got.status, last(fake).Path, got.body)
				}
			}
		})
	}
}

// The answers of native servers are checked as all others are: what fails before its first content fails over, and what breaks off later ends with an error.
func TestNativeFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []nativeCase{nativeOllama, nativeVLLM, nativeLlama} {
		for _, test := range []struct {
			name   string
			answer fakellm.Answer
			over   bool // another target answers
		}{
			{"internal error", fakellm.InternalError(), true},
			{"busy", fakellm.Busy(), true},
			{"cut before the content", fakellm.Text("a").RoleFirst().CutAfter(0), true},
			{"garbage", fakellm.Garbage(), true},
			{"cut", fakellm.Text("a", "b").CutAfter(1), false},
			{"dropped", fakellm.Text("a", "b").DropAfter(1), false},
			{"an error event", fakellm.Text("a", "b").ErrorEventAfter(1), false},
			{"no message_stop", fakellm.Text("a", "b").NoFinish().NoDone(), false},
		} {
			t.Run(c.fake+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				other := fakellm.Start(t, "openai")
				other.Always(fakellm.Text("other"))
				s, fake := c.start(t, func(s *setup) { s.up("other", upstream.OpenAI, nil, other.URL()) }, "m u/x|other/y")
				fake.Always(test.answer)
				got := s.post("/v1/messages", c.body(true, ""))
				if last(fake).Path != "/v1/messages" {
					t.Fatalf("%s was asked", last(fake).Path)
				}
				text, stop := textOf(t, got.body)
				switch {
				case test.over && (text != "other" || stop != "end_turn"):
					t.Errorf("%q, %q: %s", text, stop, got.body)
				case !test.over && (!strings.HasPrefix(text, "a") || !strings.HasPrefix(stop, "error: ") || strings.Contains(got.body, "message_stop") || len(other.Requests()) != 0):
					t.Errorf("%q, %q: %s", text, stop, got.body)
				}
			})
		}
	}
}

// Thinking of a native server has the signature by which the gateway knows that Anthropic's API would refuse it.
func TestNativeThinkingIsUnsigned(t *testing.T) {
	t.Parallel()
	s, fake := nativeVLLM.start(t, nil, "m u/x")
	for _, stream := range []bool{false, true} {
		fake.Always(fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"id":"chatcmpl-1","type":"message","role":"assistant","model":"x","content":[
			{"type":"thinking","thinking":"Hm.","signature":"5f2b"},{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}`)))
		if stream {
			fake.Always(fakellm.RawEvents(
				"event: message_start\n"+`data: {"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant","content":[],"model":"x","usage":{"input_tokens":1,"output_tokens":0}}}`,
				"event: content_block_start\n"+`data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
				"event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}`,
				"event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"5f2b"}}`,
				"event: content_block_stop\n"+`data: {"type":"content_block_stop","index":0}`,
				"event: content_block_start\n"+`data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
				"event: content_block_delta\n"+`data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}`,
				"event: content_block_stop\n"+`data: {"type":"content_block_stop","index":1}`,
				"event: message_delta\n"+`data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":1,"output_tokens":2}}`,
				"event: message_stop\n"+`data: {"type":"message_stop"}`,
			))
		}
		got := s.post("/v1/messages", nativeVLLM.body(stream, ""))
		if text, _ := textOf(t, got.body); text != "Hello" || !strings.Contains(got.body, `Hm.`) || strings.Contains(got.body, "5f2b") || !strings.Contains(got.body, `"signature":"llm`) {
			t.Errorf("stream %v: %s", stream, got.body)
		}
	}
}
