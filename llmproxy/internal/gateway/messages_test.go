package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// messagesSetup starts a gateway in front of Anthropic's API, as the upstream claude, and one of OpenAI's, as gpt.
func messagesSetup(t *testing.T, models ...string) (s *setup, claude, gpt *fakellm.Server) {
	t.Helper()
	claude, gpt = fakellm.Start(t, "anthropic"), fakellm.Start(t, "openai")
	s = &setup{t: t}
	s.up("claude", upstream.Anthropic, func(c *upstream.Config) { c.APIKey = "sk-ant" }, claude.URL())
	s.up("gpt", upstream.OpenAI, nil, gpt.URL())
	return s.serve(models...), claude, gpt
}

func messages(model string, stream bool) string {
	if stream {
		return `{"model":"` + model + `", "max_tokens":10,"messages":[{"role":"user","content":[{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}}]}],"from_the_future":[1.50],"stream":true}`
	}
	return `{"model":"` + model + `", "max_tokens":10,"messages":[{"role":"user","content":[{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}}]}],"from_the_future":[1.50]}`
}

// A client of Anthropic's API in front of Anthropic's API: every byte passes, in both directions.
func TestMessagesPass(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		s, claude, _ := messagesSetup(t, "m claude/claude-sonnet-4-5")
		claude.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 20))
		got := s.post("/v1/messages?beta=true", messages("m", stream), "Anthropic-Beta", "a,b", "Anthropic-Version", "2024-01-01", "X-Api-Key", "the client's", "Cookie", "c=1")
		sent := claude.Requests()[0]
		if want := strings.Replace(messages("m", stream), `"m"`, `"claude-sonnet-4-5"`, 1); string(sent.Body) != want {
			t.Errorf("got  %s\nwant %s", sent.Body, want)
		}
		header := map[string]string{"Anthropic-Beta": "a,b", "Anthropic-Version": "2024-01-01", "X-Api-Key": "sk-ant", "Cookie": "", "Authorization": ""}
		for name, want := range header {
			if v := sent.Header.Get(name); v != want {
				t.Errorf("%s is %q, want %q", name, v, want)
			}
		}
		direct := fakellm.Start(t, "anthropic")
		direct.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 20))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, direct.URL()+"/v1/messages", strings.NewReader(string(sent.Body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Anthropic-Version", "2023-06-01")
		if want := s.do(req); got.status != http.StatusOK || got.body != want.body {
			t.Errorf("status %d\ngot  %s\nwant %s", got.status, got.body, want.body)
		}
		if id := got.header.Get("Request-Id"); !strings.HasPrefix(id, "req_011") || got.header.Get("Anthropic-Ratelimit-Requests-Remaining") != "3999" {
			t.Errorf("header %v", got.header)
		}
		rec := s.record()
		if diff := cmp.Diff(tokens.Usage{Input: 30, Output: 5, Cached: 20}, rec.Usage); diff != "" || rec.Estimated || rec.Bytes != int64(len(got.body)) {
			t.Errorf("usage %s, estimated %v, %d bytes", diff, rec.Estimated, rec.Bytes)
		}
	}
}

// textOf returns the text and the stop reason of an answer of either API, streamed or whole.
func textOf(t *testing.T, body string) (text, stop string) {
	t.Helper()
	var whole struct {
		Content    []struct{ Text string }
		StopReason string `json:"stop_reason"`
		Choices    []struct {
			Message      struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
	}
	if json.Unmarshal([]byte(body), &whole) == nil {
		for _, block := range whole.Content {
			text += block.Text
		}
		for _, choice := range whole.Choices {
			text, stop = text+choice.Message.Content, choice.FinishReason
		}
		return text, stop + whole.StopReason
	}
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || strings.HasPrefix(data, "[DONE]") {
			continue
		}
		var event struct {
			Type  string
			Delta struct {
				Text       string
				StopReason string `json:"stop_reason"`
			}
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
			Error struct{ Message string }
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		text, stop = text+event.Delta.Text, stop+event.Delta.StopReason
		for _, choice := range event.Choices {
			text, stop = text+choice.Delta.Content, stop+choice.FinishReason
		}
		if event.Error.Message != "" {
			stop += "error: " + event.Error.Message
		}
	}
	return text, stop
}

// Each API's clients get the answers of each API's upstreams, and another target answers if one fails before its first content.
func TestMessagesAreTranslated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		model string
		fails bool // claude fails first
		stop  map[string]string
	}{
		{"OpenAI's API", "gpt", false, map[string]string{"/v1/messages": "end_turn", chatPath: "stop"}},
		{"Anthropic's API", "claude", false, map[string]string{"/v1/messages": "end_turn", chatPath: "stop"}},
		{"from Anthropic's to OpenAI's", "both", true, map[string]string{"/v1/messages": "end_turn", chatPath: "stop"}},
	} {
		for path, stop := range test.stop {
			for _, stream := range []bool{false, true} {
				s, claude, gpt := messagesSetup(t, "gpt gpt/x", "claude claude/x", "both claude/x|gpt/x")
				claude.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 20))
				gpt.Always(fakellm.Text("Hel", "lo").Usage(30, 5, 20))
				if test.fails {
					claude.Always(fakellm.Busy())
				}
				body := messages(test.model, stream)
				if path == chatPath {
					body = chat(test.model, stream)
				}
				got := s.post(path, body)
				if text, reason := textOf(t, got.body); got.status != http.StatusOK || text != "Hello" || reason != stop {
					t.Errorf("%s, %s, stream %v: status %d, %q, %q: %s", test.name, path, stream, got.status, text, reason, got.body)
				}
				rec := s.record()
				if diff := cmp.Diff(tokens.Usage{Input: 30, Output: 5, Cached: 20}, rec.Usage); diff != "" || rec.Verdict != router.OK {
					t.Errorf("%s, %s, stream %v: %s, %s", test.name, path, stream, rec.Verdict, diff)
				}
				if strings.Contains(got.body, `"usage":{"prompt_tokens"`) != (path == chatPath && !stream) {
					t.Errorf("%s, %s, stream %v: usage: %s", test.name, path, stream, got.body)
				}
			}
		}
	}
}

// Errors have the form that the client knows, and Anthropic's own reach its clients unchanged.
func TestMessagesErrors(t *testing.T) {
	t.Parallel()
	const id = `,"request_id":"req_`
	for _, test := range []struct {
		name, path, model string
		answer            fakellm.Answer
		stream            bool
		status            int
		want              string
	}{
		{"Anthropic's own, whole", "/v1/messages", "claude", fakellm.TooLong(), false, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`},
		{"Anthropic's overload", "/v1/messages", "claude", fakellm.Busy(), true, 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`},
		{"Anthropic's own in a stream", "/v1/messages", "claude", fakellm.Text("a", "b").ErrorEventAfter(1), true, 200, "event: error\ndata: " + `{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"}}`},
		{"Anthropic's for a client of OpenAI's", chatPath, "claude", fakellm.TooLong(), false, 400, `{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum","type":"invalid_request_error"`},
		{"Anthropic's in a stream for a client of OpenAI's", chatPath, "claude", fakellm.Text("a", "b").ErrorEventAfter(1), true, 200, `data: {"error":{"message":"Overloaded","type":"overloaded_error"`},
		{"OpenAI's for a client of Anthropic's", "/v1/messages", "gpt", fakellm.TooLong(), false, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"This model's maximum context length is 4096 tokens.`},
		{"OpenAI's in a stream for a client of Anthropic's", "/v1/messages", "gpt", fakellm.Text("a", "b").ErrorEventAfter(1), true, 200, "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"The server had an error`},
		{"a stream that is cut", "/v1/messages", "gpt", fakellm.Text("a", "b").CutAfter(1), true, 200, "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"The upstream \"gpt\" broke off`},
		{"a stream of Anthropic's that is cut", "/v1/messages", "claude", fakellm.Text("a", "b").CutAfter(1), true, 200, "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"The upstream \"claude\" broke off`},
		{"the gateway's own", "/v1/messages", "unknown", fakellm.Text("a"), false, 404, `{"type":"error","error":{"type":"not_found_error","message":"The model \"unknown\" is not served here.`},
		{"the gateway's key", "/v1/messages", "claude", fakellm.Status(401), false, 502, `{"type":"error","error":{"type":"api_error","message":"The upstream \"claude\" rejected`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, claude, gpt := messagesSetup(t, "gpt gpt/x", "claude claude/x")
			claude.Always(test.answer)
			gpt.Always(test.answer)
			body := messages(test.model, test.stream)
			if test.path == chatPath {
				body = chat(test.model, test.stream)
			}
			got := s.post(test.path, body)
			if got.status != test.status || !strings.Contains(got.body, test.want) {
				t.Errorf("status %d: %s\nwant %d: %s", got.status, got.body, test.status, test.want)
			}
			if test.path != chatPath && (got.header.Get("Request-Id") == "" || strings.Contains(got.body, "message_stop")) {
				t.Errorf("header %v, body %s", got.header, got.body)
			}
			if test.status >= 400 && test.path != chatPath && !strings.Contains(got.body, id) {
				t.Errorf("no request ID: %s", got.body)
			}
		})
	}
}

// A request that cannot be translated gets an error, or goes to another target.
func TestUntranslatableRequests(t *testing.T) {
	t.Parallel()
	two := `{"model":"%","n":2,"messages":[{"role":"user","content":"Hi"}]}`
	s, claude, gpt := messagesSetup(t, "claude claude/x", "both claude/x|gpt/x")
	if got := s.post(chatPath, strings.Replace(two, "%", "claude", 1)); got.status != 400 || !strings.Contains(got.body, `"param":"n"`) {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if got := s.post(chatPath, strings.Replace(two, "%", "both", 1)); got.status != 200 || len(gpt.Requests()) != 1 || len(claude.Requests()) != 0 {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// Features of Anthropic's API alone reach it as they are, are counted there, and are a clear error at other upstreams.
func TestOnlyAnthropicTakes(t *testing.T) {
	t.Parallel()
	const hi = `"messages":[{"role":"user","content":"Hi"}]`
	for name, test := range map[string]struct{ part, place string }{
		"a tool that runs there": {`"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search","max_uses":5}],` + hi, "tools.1.type: "},
		"servers of tools":       {`"mcp_servers":[{"type":"url","url":"https://example.com"}],` + hi, "mcp_servers: "},
		"a container":            {`"container":"c1",` + hi, "container: "},
		"an image by its ID":     {`"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f1"}},{"type":"text","text":"Hi"}]}]`, "messages.0.content.0.source: "},
		"a document by its URL":  {`"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}]}]`, "messages.0.content.1.source: "},
		"a document in a result": {`"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"document","source":{"type":"file","file_id":"f1"}}]}]}]`, "messages.1.content.0.content.0.source: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, cached := range []bool{false, true} {
				claude, gpt := fakellm.Start(t, "anthropic"), fakellm.Start(t, "openai")
				s := &setup{t: t}
				if cached {
					s.config.Cache = rules(t, nil)
				}
				s.up("claude", upstream.Anthropic, nil, claude.URL())
				s.up("gpt", upstream.OpenAI, nil, gpt.URL())
				s.serve("claude claude/x", "gpt gpt/x", "both gpt/x|claude/x")
				body := func(model string) string { return `{"model":"` + model + `","max_tokens":10,` + test.part + `}` }
				for _, model := range []string{"claude", "both"} {
					got := s.post("/v1/messages", body(model))
					sent := last(claude)
					if got.status != 200 || len(gpt.Requests()) != 0 || !cached && string(sent.Body) != strings.Replace(body(model), model, "x", 1) {
						t.Errorf("%s, cached %v: status %d: %s, sent %s", model, cached, got.status, got.body, sent.Body)
					}
				}
				if got := s.post(countPath, body("claude")); got.body != `{"input_tokens":14}` {
					t.Errorf("count: %s", got.body)
				}
				if got := s.post("/v1/messages", body("gpt")); got.status != 400 || !strings.HasPrefix(got.body, `{"type":"error","error":{"type":"invalid_request_error","message":"`+test.place) || len(gpt.Requests()) != 0 {
					t.Errorf("gpt: status %d: %s", got.status, got.body)
				}
			}
		})
	}
}

// An image by its URL goes to servers that fetch it, and is a clear error where none does.
func TestMessagesImagesByURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fake string
		kind *upstream.Kind
		want string // in the request; empty if the member is absent
	}{
		{"anthropic", upstream.Anthropic, `{"type":"url","url":"https://example.com/a.png"}`},
		{"openai", upstream.OpenAI, `{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}`},
		{"vllm", upstream.VLLM, `{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}`},
		{"ollama", upstream.Ollama, ""},
	} {
		fake := fakellm.Start(t, test.fake)
		s := &setup{t: t}
		s.up("u", test.kind, nil, fake.URL())
		s.serve("m u/x")
		got := s.post("/v1/messages", `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]}]}`)
		sent := fake.Requests()
		switch {
		case test.want == "" && (got.status != 400 || !strings.Contains(got.body, `"message":"messages.0.content.1.source.url: `) || len(sent) != 0):
			t.Errorf("%s: status %d: %s", test.fake, got.status, got.body)
		case test.want != "" && (got.status != 200 || !strings.Contains(string(sent[len(sent)-1].Body), test.want)):
			t.Errorf("%s: status %d: %s", test.fake, got.status, got.body)
		}
	}
}

// Invalid requests are refused in Anthropic's format, with the place and the ID of the request, and nothing is sent to an upstream, whatever
// API that has.
func TestInvalidMessages(t *testing.T) {
	t.Parallel()
	const max = 512 << 10
	deep := func(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }
	user := func(blocks string) string {
		return `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[` + blocks + `]}]}`
	}
	for _, test := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"no JSON", `{"model":`, 400, "The request body is not a JSON object"},
		{"a key twice", `{"model":"m","model":"n","max_tokens":1,"messages":[]}`, 400, `Duplicate key \"model\" at byte 14`},
		{"a key in disguise", `{"model":"m","mod\u0065l":"n","max_tokens":1,"messages":[]}`, 400, `another spelling of \"model\"`},
		{"a key in capitals", `{"Model":"m","max_tokens":1,"messages":[]}`, 400, `another spelling of \"model\"`},
		{"messages twice", `{"model":"m","max_tokens":1,"messages":[],"messages":[]}`, 400, `Duplicate key \"messages\"`},
		{"max_tokens twice", `{"model":"m","max_tokens":1,"max_tokens":9,"messages":[]}`, 400, `Duplicate key \"max_tokens\"`},
		{"deep nesting", `{"model":"m","max_tokens":1,"messages":` + deep(100_000) + `}`, 400, "nest"},
		{"deep nesting in a result", user(`{"type":"tool_result","tool_use_id":"a","content":` + deep(100_000) + `}`), 400, "nest"},
		{"deep nesting in an unknown member", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"Hi"}],"x":` + deep(100_000) + `}`, 400, "nest"},
		{"too large", user(`{"type":"text","text":"` + strings.Repeat("x", max) + `"}`), 413, "request_too_large"},
		{"no model", `{"max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}`, 400, "does not name a model"},
		{"no max_tokens", `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`, 400, "max_tokens: is missing"},
		{"max_tokens is no number", `{"model":"m","max_tokens":"1","messages":[{"role":"user","content":"Hi"}]}`, 400, "max_tokens: "},
		{"no messages", `{"model":"m","max_tokens":1,"messages":[]}`, 400, "messages: is empty"},
		{"messages are no list", `{"model":"m","max_tokens":1,"messages":"Hi"}`, 400, "messages: must be a list"},
		{"content is no list", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"Hi"},{"role":"user","content":{}}]}`, 400, "messages.1.content: "},
		{"a block without a type", user(`{"text":"a"}`), 400, "messages.0.content.0: "},
		{"invalid text", user(`{"type":"text","text":1}`), 400, "messages.0.content.0.text: "},
		{"a result without its call", user(`{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"a"}`), 400, "messages.0.content.1.tool_use_id: "},
		{"a call without a name", `{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","input":{}}]}]}`, 400, "messages.0.content.0.name: "},
		{"an unknown role", `{"model":"m","max_tokens":1,"messages":[{"role":"owl","content":"Hi"}]}`, 400, "messages.0.role: "},
		{"invalid image", user(`{"type":"image","source":{"type":"base64","media_type":"image/png","data":"SGVsbG8gV29ybGQh"}}`), 400, "messages.0.content.0.source.data: is not a base64 image"},
		{"an image that is not base64", user(`{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo!"}}`), 400, "messages.0.content.0.source.data: "},
		{"an image in a file of this machine", user(`{"type":"image","source":{"type":"url","url":"file:///etc/passwd"}}`), 400, "messages.0.content.0.source.url: "},
		{"invalid tool choice", `{"model":"m","max_tokens":1,"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"maybe"},"messages":[{"role":"user","content":"Hi"}]}`, 400, "tool_choice.type: "},
	} {
		for path, also := range map[string]bool{"/v1/messages": true, countPath: !strings.Contains(test.name, "max_tokens") || strings.Contains(test.name, "twice")} {
			if !also { // a request to count needs no max_tokens
				continue
			}
			t.Run(test.name+path, func(t *testing.T) {
				t.Parallel()
				claude, gpt := fakellm.Start(t, "anthropic"), fakellm.Start(t, "openai")
				s := &setup{t: t}
				s.config.MaxBody = max
				s.up("claude", upstream.Anthropic, nil, claude.URL())
				s.up("gpt", upstream.OpenAI, nil, gpt.URL())
				s.serve("m claude/x|gpt/x")
				got := s.post(path, test.body)
				if got.status != test.status || !strings.HasPrefix(got.body, `{"type":"error","error":{"type":"`) || !strings.Contains(got.body, test.want) {
					t.Errorf("status %d: %.300s", got.status, got.body)
				}
				if id := got.header.Get("Request-Id"); id == "" || !strings.Contains(got.body, `"request_id":"`+id+`"`) {
					t.Errorf("request-id %q: %.300s", id, got.body)
				}
				if n := len(claude.Requests()) + len(gpt.Requests()); n != 0 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// A body that is too large by its Content-Length is refused before any of it has arrived.
func TestMessagesTooLargeAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &setup{t: t, bubble: new(bubble)}
		s.up("echo", upstream.Echo, nil)
		s.config.MaxBody = 1 << 20
		s.serve("m echo")
		for _, path := range []string{"/v1/messages", countPath} {
			c := s.sendTo(path, "Content-Length: 1048577", "")
			res, body := readReply(t, c)
			if res.StatusCode != http.StatusRequestEntityTooLarge || !strings.HasPrefix(body, `{"type":"error","error":{"type":"request_too_large"`) || res.Header.Get("Request-Id") == "" {
				t.Errorf("status %d: %s", res.StatusCode, body)
			}
		}
	})
}

// While a client of Anthropic's API waits for a stream, it gets that API's pings, and a failure is its event.
func TestMessagesPings(t *testing.T) {
	const ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n"
	for _, test := range []struct {
		name     string
		upstream slow
		pings    int
		then     string
	}{
		{"an answer", slow{40 * time.Second, answered, "text/event-stream"}, 2, "event: message_start\n"},
		{"silence", slow{time.Hour, "", "text/event-stream"}, 3, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"timeout_error\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gatewayOf(t, test.upstream)
				defer g.Close()
				w := httptest.NewRecorder()
				task, _ := TaskOf("/v1/messages")
				g.Serve(w, httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(messages("m", true))), task, &exchange.Record{})
				if want := strings.Repeat(ping, test.pings) + test.then; !strings.HasPrefix(w.Body.String(), want) {
					t.Errorf("got %s", w.Body)
				}
			})
		})
	}
}

// The cache has one answer for the clients of both APIs.
func TestMessagesAreCached(t *testing.T) {
	t.Parallel()
	gpt := fakellm.Start(t, "openai")
	s := &setup{t: t}
	s.config.Cache = rules(t, nil)
	s.up("gpt", upstream.OpenAI, nil, gpt.URL())
	s.serve("m gpt/x")
	gpt.Next(fakellm.Text("one"), fakellm.Text("two"))
	for i, request := range []struct{ path, body, want string }{
		{"/v1/messages", `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"Hi"}]}`, "miss"},
		{"/v1/messages", `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"Hi"}],"stream":true}`, "hit"},
		{chatPath, `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"Hi"}]}`, "hit"},
		{chatPath, `{"model":"m","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`, "hit"},
	} {
		got := s.settled(request.path, request.body)
		if text, _ := textOf(t, got.body); got.cache() != request.want || text != "one" {
			t.Errorf("%d: %s, %q: %s", i, got.cache(), text, got.body)
		}
	}
}

// The list of models has the format of the client's API.
func TestMessagesModels(t *testing.T) {
	t.Parallel()
	s, _, _ := messagesSetup(t, "a gpt/x", "b gpt/x", "c gpt/x")
	get := func(path string, header ...string) reply {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Anthropic-Version", "2023-06-01")
		return s.do(req)
	}
	for _, test := range []struct{ path, want string }{
		{"/v1/models?limit=2", `"first_id":"a","has_more":true,"last_id":"b"`},
		{"/v1/models?limit=2&after_id=b", `"first_id":"c","has_more":false,"last_id":"c"`},
		{"/v1/models?before_id=c&limit=1", `"first_id":"b","has_more":true,"last_id":"b"`},
		{"/v1/models/b", `{"type":"model","id":"b","display_name":"b","created_at":"1970-01-01T00:00:00Z"`},
		{"/v1/models/none", `{"type":"error","error":{"type":"not_found_error"`},
	} {
		if got := get(test.path); !strings.Contains(got.body, test.want) {
			t.Errorf("%s: %s", test.path, got.body)
		}
	}
}
