package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// readResponse reads an answer of the Responses API, or a stream.
func readResponse(t *testing.T, got reply) dialecttest.Response {
	t.Helper()
	if got.status != http.StatusOK {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	if strings.HasPrefix(got.body, "{") {
		return dialecttest.ReadWholeResponse(t, []byte(got.body))
	}
	return dialecttest.ReadResponse(t, []byte(got.body))
}

// Clients of the Responses API get it from every kind of server, by the way that loses least.
func TestResponsesOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fake string
		kind       *upstream.Kind
		base, path string // at the server
		calls      bool   // the fake server calls tools there
	}{
		{"openai", "openai", upstream.OpenAI, "", "/v1/responses", false},
		{"groq", "openai", upstream.Groq, "/openai/v1", "/openai/v1/responses", false},
		{"deepseek", "openai", upstream.DeepSeek, "", "/v1/chat/completions", true},
		{"gemini", "openai", upstream.Gemini, "/v1", "/v1/chat/completions", true},
		{"anthropic", "anthropic", upstream.Anthropic, "", "/v1/messages", true},
		{"ollama", "ollama", upstream.Ollama, "", "/api/chat", false},
		{"vllm", "vllm", upstream.VLLM, "", "/v1/chat/completions", true},
		{"llamacpp", "llamacpp", upstream.LlamaCpp, "", "/v1/chat/completions", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, tt.fake, fakellm.Models("x"))
			s := &setup{t: t}
			s.up("u", tt.kind, nil, fake.URL()+tt.base)
			s.serve("m u/x")
			for _, stream := range []string{"", `,"stream":true`} {
				fake.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 0))
				r := readResponse(t, s.post("/v1/responses", `{"model":"m","input":"Hi","store":false`+stream+`}`))
				if diff := cmp.Diff([]string{"Hello"}, r.Texts("message")); diff != "" || r.Status != "completed" || r.Usage["input_tokens"] != 30.0 {
					t.Errorf("%s %s, usage %v", r.Status, diff, r.Usage)
				}
				if path := last(fake).Path; path != tt.path {
					t.Errorf("asked for %s", path)
				}
				if !tt.calls {
					continue
				}
				fake.Always(fakellm.Text().Call("f", `{"a":1}`).Usage(30, 5, 0))
				r = readResponse(t, s.post("/v1/responses", `{"model":"m","input":"Hi","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]`+stream+`}`))
				if diff := cmp.Diff([]string{`{"a":1}`}, r.Texts("function_call")); diff != "" {
					t.Errorf("%s\n%v", diff, r.Output)
				}
			}
			if rec := s.record(); rec.Usage != (tokens.Usage{Input: 30, Output: 5}) || rec.Estimated || rec.Endpoint != "responses" {
				t.Errorf("usage %+v, estimated %v, endpoint %s", rec.Usage, rec.Estimated, rec.Endpoint)
			}
		})
	}
}

// codexTools are tools of the kinds that Codex sends.
const codexTools = `,"tools":[{"type":"function","name":"exec","parameters":{"type":"object"}},{"type":"custom","name":"apply_patch","format":{"type":"text"}},` +
	`{"type":"namespace","name":"mcp__files","tools":[{"type":"function","name":"read","parameters":{"type":"object"}}]},{"type":"web_search"}]`

// A server that does not have the Responses API, or does not know its tools, is asked by chat, and that is remembered.
func TestServersThatLackResponses(t *testing.T) {
	t.Parallel()
	refusal := func(status int, message string) fakellm.Answer {
		return fakellm.Raw(status, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"`+message+`"}}`))
	}
	for _, tt := range []struct {
		name   string
		answer fakellm.Answer
		rest   string // of the request
		byChat bool
	}{
		{"no such path", refusal(http.StatusNotFound, "Not Found"), "", true},
		{"wrong method", refusal(http.StatusMethodNotAllowed, "Method Not Allowed"), "", true},
		{"not implemented", refusal(http.StatusNotImplemented, "not supported"), "", true},
		{"no such model", refusal(http.StatusNotFound, "The model `x` does not exist."), "", false},
		{"unknown tools", refusal(http.StatusBadRequest, "'type' of tool must be 'function'"), codexTools, true},
		{"unknown tools, as a failure", refusal(http.StatusInternalServerError, "Unsupported tool type: namespace"), codexTools, true},
		{"a bad function", refusal(http.StatusBadRequest, "Invalid schema of the tool f"), `,"tools":[{"type":"function","name":"f"}]`, false},
		{"another mistake", refusal(http.StatusBadRequest, "temperature must be a number"), codexTools, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			s.serve("m u/x")
			fake.Next(tt.answer, fakellm.Text("Hello"), fakellm.Text("Hello"))
			request := `{"model":"m","input":"Hi"` + tt.rest + `}`
			got := s.post("/v1/responses", request)
			if !tt.byChat {
				if n := len(fake.Requests()); got.status == http.StatusOK || n != 1 {
					t.Errorf("status %d after %d requests: %s", got.status, n, got.body)
				}
				return
			}
			if r := readResponse(t, got); len(r.Texts("message")) != 1 {
				t.Errorf("got %s", got.body)
			}
			readResponse(t, s.post("/v1/responses", request))
			var paths []string
			for _, r := range fake.Requests() {
				paths = append(paths, r.Path)
			}
			if diff := cmp.Diff([]string{"/v1/responses", "/v1/chat/completions", "/v1/chat/completions"}, paths); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Calls of tools that are no functions come back as the client knows them.
func TestToolsByChat(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "llamacpp", nil)
	s.serve("m u/x")
	fake.Always(fakellm.Text().Call("mcp__files__read", `{"path":"a"}`).Call("apply_patch", `{"input":"*** Begin\n\"x\""}`))
	for _, stream := range []string{"", `,"stream":true`} {
		r := readResponse(t, s.post("/v1/responses", `{"model":"m","input":"Hi"`+codexTools+stream+`}`))
		got := []any{}
		for _, item := range r.Output {
			got = append(got, []any{item["type"], item["namespace"], item["name"], item["arguments"], item["input"]})
		}
		want := []any{[]any{"function_call", "mcp__files", "read", `{"path":"a"}`, nil}, []any{"custom_tool_call", nil, "apply_patch", nil, "*** Begin\n\"x\""}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	var sent struct {
		Tools []struct{ Function struct{ Name string } }
	}
	if err := json.Unmarshal(last(fake).Body, &sent); err != nil || len(sent.Tools) != 3 {
		t.Errorf("%v: %s", err, last(fake).Body)
	}
}

// A request that needs stored responses goes to a server that stores them, or gets an error that names the member.
func TestResponsesThatNeedAStore(t *testing.T) {
	t.Parallel()
	chat, other := fakellm.Start(t, "llamacpp", fakellm.Models("x")), fakellm.Start(t, "openai", fakellm.Models("x"))
	s := &setup{t: t}
	s.up("chat", upstream.LlamaCpp, nil, chat.URL())
	s.up("other", upstream.OpenAI, nil, other.URL())
	s.serve("m chat/x", "both chat/x | other/x")
	for member, value := range map[string]string{"previous_response_id": `"resp_1"`, "conversation": `"conv_1"`, "background": "true", "prompt": `{"id":"pmpt_1"}`} {
		body := func(model string) string {
			return `{"model":"` + model + `","input":"Hi","` + member + `":` + value + `}`
		}
		got := s.post("/v1/responses", body("m"))
		if e := decoded(t, got.body)["error"].(map[string]any); got.status != http.StatusBadRequest || e["param"] != member || e["code"] != "invalid_request" {
			t.Errorf("%s: status %d: %s", member, got.status, got.body)
		}
		if got := s.post("/v1/responses", body("both")); got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "other/x" || !strings.Contains(string(last(other).Body), member) {
			t.Errorf("%s: status %d from %s: %s", member, got.status, got.header.Get("X-Llm-Target"), got.body)
		}
	}
	if n := len(chat.Requests()); n != 0 {
		t.Errorf("the chat API saw %d requests", n)
	}
}

// A server whose Responses API gets only what chat cannot express says itself what is wrong with such a request.
func TestErrorsOfAnAvoidedAPI(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "vllm", nil)
	s.serve("m u/x")
	fake.Always(fakellm.Raw(http.StatusNotFound, http.Header{"Content-Type": {"application/json"}},
		[]byte(`{"error":{"message":"Response with id 'resp_1' not found.","type":"invalid_request_error","param":"response_id","code":404}}`)))
	got := s.post("/v1/responses", `{"model":"m","input":"Hi","previous_response_id":"resp_1"}`)
	if got.status != http.StatusNotFound || !strings.Contains(got.body, "Response with id 'resp_1' not found.") || len(fake.Requests()) != 1 {
		t.Errorf("status %d after %d requests: %s", got.status, len(fake.Requests()), got.body)
	}
}

// Reasoning that the gateway encoded comes back to the model by chat, and does not go to a service that would refuse it.
func TestReasoningOfResponses(t *testing.T) {
	t.Parallel()
	chat, other := fakellm.Start(t, "vllm", fakellm.Models("x")), fakellm.Start(t, "openai", fakellm.Models("x"))
	s := &setup{t: t}
	s.up("chat", upstream.VLLM, nil, chat.URL())
	s.up("other", upstream.OpenAI, nil, other.URL())
	s.serve("m chat/x", "o other/x")
	chat.Always(fakellm.Text("Hello").Thinking("so ", "be it").Call("f", `{}`))
	r := readResponse(t, s.post("/v1/responses", `{"model":"m","input":"Hi","include":["reasoning.encrypted_content"],"tools":[{"type":"function","name":"f","parameters":{}}]}`))
	if diff := cmp.Diff([]string{"so be it"}, r.Texts("reasoning")); diff != "" {
		t.Fatal(diff)
	}
	output, err := json.Marshal(r.Output)
	if err != nil {
		t.Fatal(err)
	}
	replay := func(model string) string {
		items := strings.TrimSuffix(strings.TrimPrefix(string(output), "["), "]")
		return `{"model":"` + model + `","input":[{"role":"user","content":"Hi"},` + items + `,{"type":"function_call_output","call_id":"` + r.Output[len(r.Output)-1]["call_id"].(string) + `","output":"1"}]}`
	}
	if got := s.post("/v1/responses", replay("m")); got.status != http.StatusOK || !strings.Contains(string(last(chat).Body), `"so be it"`) {
		t.Errorf("status %d: %s\nsent %s", got.status, got.body, last(chat).Body)
	}
	if got := s.post("/v1/responses", replay("o")); got.status != http.StatusOK || strings.Contains(string(last(other).Body), "llm_proxy_") || !strings.Contains(string(last(other).Body), `"function_call"`) {
		t.Errorf("status %d: %s\nsent %s", got.status, got.body, last(other).Body)
	}
}

// A stream by chat ends as one of the Responses API does: also if the server leaves something out, or fails.
func TestEndsOfResponsesByChat(t *testing.T) {
	t.Parallel()
	text := fakellm.Text("Hel", "lo")
	for _, tt := range []struct {
		name   string
		answer fakellm.Answer
		status string
		why    string // in the error
	}{
		{"complete", text, "completed", ""},
		{"the limit", text.Finish("length"), "incomplete", ""},
		{"without [DONE]", text.NoDone(), "completed", ""},
		{"without [DONE] and usage", fakellm.RawEvents(`data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}`, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`), "completed", ""},
		{"cut", text.CutAfter(1), "failed", "upstream_error"},
		{"killed in the middle of an event", text.DropAfter(1), "failed", "broke off"},
		{"an error", text.ErrorEventAfter(1), "failed", "The server had an error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			fake := fakellm.Start(t, "openai", fakellm.Models("x"))
			s := &setup{t: t}
			s.up("u", upstream.DeepSeek, nil, fake.URL())
			s.serve("m u/x")
			fake.Always(tt.answer)
			got := s.post("/v1/responses", `{"model":"m","input":"Hi","stream":true}`)
			if tt.status != "failed" {
				if r := readResponse(t, got); r.Status != tt.status || !cmp.Equal(r.Texts("message"), []string{"Hello"}) {
					t.Errorf("%s: %s", r.Status, got.body)
				}
				return
			}
			var next int
			var id string
			for event := range strings.SplitSeq(strings.TrimSpace(got.body), "\n\n") {
				var e struct {
					Type     string
					Sequence *int `json:"sequence_number"`
					Response struct {
						ID, Status string
						Error      *struct{ Code, Message string }
					}
				}
				_, data, _ := strings.Cut(event, "data: ")
				if err := json.Unmarshal([]byte(data), &e); err != nil || e.Sequence == nil || *e.Sequence != next {
					t.Fatalf("event %d is %s, %v", next, event, err)
				}
				if next++; next == 1 {
					id = e.Response.ID
				}
				if e.Type == "response.failed" && (e.Response.ID != id || e.Response.Error == nil || !strings.Contains(data, tt.why)) {
					t.Errorf("%s\nis not the failure of %s", event, id)
				}
			}
			if strings.Count(got.body, "event: response.failed") != 1 || strings.Contains(got.body, "event: response.completed") || strings.Contains(got.body, "[DONE]") {
				t.Errorf("%s", got.body)
			}
		})
	}
}
