package loadtest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

var t0 = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// What counts as content, and as the end of an answer.
func TestReadStream(t *testing.T) {
	t.Parallel()
	const chunk = `data: {"choices":[{"delta":{`
	for _, test := range []struct {
		name    string
		dialect Dialect
		stream  []byte
		events  int
		tokens  int64
	}{
		{"role, content, finish, usage", OpenAI, lines(
			chunk+`"role":"assistant","content":""}}]}`, "", chunk+`"content":"Hi"}}]}`, "", chunk+`"content":" you"}}]}`, "", chunk+`},"finish_reason":"stop"}]}`, "",
			`data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}`, "", "data: [DONE]", ""), 2, 9},
		{"the last content with the finish", OpenAI, lines(chunk+`"content":"Hi"}}]}`, "", chunk+`"content":"!"},"finish_reason":"stop"}]}`, "", "data: [DONE]", ""), 2, 2},
		{"both names of reasoning", OpenAI, lines(chunk+`"reasoning_content":"Hm"}}]}`, "", chunk+`"reasoning":"Hm"}}]}`, "", chunk+`"content":"!"}}]}`, "", chunk+`},"finish_reason":"stop"}]}`, ""), 3, 3},
		{"a tool call", OpenAI, lines(chunk+`"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}`, "", chunk+`},"finish_reason":"tool_calls"}]}`, ""), 1, 1},
		{"pings", OpenAI, lines(": ping", "", chunk+`"content":"Hi"}}]}`, "", ": ping", "", chunk+`},"finish_reason":"stop"}]}`, ""), 1, 1},
		{"Anthropic", Anthropic, lines(
			"event: message_start", `data: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}`, "",
			"event: ping", `data: {"type":"ping"}`, "",
			`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, "",
			`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}`, "",
			`data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}`, "",
			`data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}`, "",
			`data: {"type":"message_stop"}`, ""), 2, 7},
		{"Ollama", Ollama, lines(
			`{"message":{"content":"Hi"},"done":false}`, `{"message":{"thinking":"Hm"},"done":false}`, `{"message":{"content":""},"done":true,"prompt_eval_count":4,"eval_count":6}`), 2, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := sendTo(t.Context(), test.dialect, true, canned{200, "text/event-stream", test.stream})
			if got.failure != nil || len(got.events) != test.events || got.usage.Output != test.tokens {
				t.Errorf("got %d events, %d tokens, %v; want %d, %d", len(got.events), got.usage.Output, got.failure, test.events, test.tokens)
			}
		})
	}
}

// Without the server's count, the tokens of an answer that is not a stream are estimated from its size.
func TestEstimateWhole(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("word", 25)
	for dialect, body := range map[Dialect]string{
		OpenAI:    `{"choices":[{"message":{"role":"assistant","content":"` + text + `"},"finish_reason":"stop"}]}`,
		Anthropic: `{"content":[{"type":"text","text":"` + text + `"}],"stop_reason":"end_turn"}`,
		Ollama:    `{"message":{"content":"` + text + `"},"done":true}`,
	} {
		if got := sendTo(t.Context(), dialect, false, canned{200, "application/json", []byte(body)}); got.usage.Output != 25 || !got.estimated {
			t.Errorf("%s: got %+v", dialect, got)
		}
	}
}

// Whatever a server sends, the outcome is an answer with content or a failure with a message.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
		"data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"x\"}}\n\n",
		"{\"message\":{\"content\":\"Hi\"},\"done\":true}\n", `{"choices":[{"message":{"content":"Hi"}}]}`, `{"content":[{"text":"Hi"}]}`, "data: {\"error\":{\"message\":\"no\"}}\n\n", `{"error":"no"}`,
	} {
		f.Add([]byte(seed), 200)
		f.Add([]byte(seed), 500)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		for _, dialect := range Dialects() {
			for _, stream := range []bool{true, false} {
				got := sendTo(t.Context(), dialect, stream, canned{status, "text/event-stream", body})
				switch {
				case got.canceled:
					t.Fatalf("%s: canceled", dialect)
				case got.failure == nil && (len(got.events) == 0 || got.usage.Output < 1):
					t.Fatalf("%s: an answer without content: %+v", dialect, got)
				case got.failure != nil && strings.ContainsAny(got.failure.Error(), "\x1b\n\u009b"):
					t.Fatalf("%s: control characters in %q", dialect, got.failure.Error())
				}
			}
		}
	})
}

// Prompts are read from lines of text or JSON.
func TestReadPrompts(t *testing.T) {
	t.Parallel()
	p, err := ReadPrompts(strings.NewReader("Why is the sky blue?\n\n  {\"prompt\":\"Hi\\nyou\"}\r\n{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hi\"}]}"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Prompt{
		{[]Message{{"user", "Why is the sky blue?"}}}, {[]Message{{"user", "Hi\nyou"}}}, {[]Message{{"system", "Be brief."}, {"user", "Hi"}}},
	}
	if diff := cmp.Diff(want, p.list); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1], p.at(4)); diff != "" {
		t.Error(diff)
	}
	if system, rest := want[2].split(); system != "Be brief." || len(rest) != 1 {
		t.Errorf("got %q, %v", system, rest)
	}
	for text, words := range map[string]string{
		"":                  "no prompts",
		"\n\n":              "no prompts",
		"ok\n{}":            `line 2: the object must have either "prompt" or "messages"`,
		`{"prompt":`:        "line 1: a line that begins with {",
		`{"messages":[{}]}`: `must have a "role"`,
		"\xff":              "not UTF-8",
		`{"prompt":"a","messages":[{"role":"user","content":"b"}]}`: "either",
	} {
		if _, err := ReadPrompts(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v, want %q", text, err, words)
		}
	}
}

func FuzzPrompts(f *testing.F) {
	f.Add("Hi\n{\"prompt\":\"Hi\"}")
	f.Add("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ReadPrompts(strings.NewReader(text))
		if err != nil {
			return
		}
		for i := range len(p.list) + 1 {
			if len(p.at(i).Messages) == 0 {
				t.Fatal("a prompt without messages")
			}
		}
	})
}

// Made-up prompts have about the wanted length, and no two of them begin alike.
func TestMadeUpPrompts(t *testing.T) {
	t.Parallel()
	p := MakeUp(100, 5)
	begins := map[string]bool{}
	for i := -3; i < 200; i++ {
		text := p.at(i).Messages[0].Content
		if n := len(strings.Fields(text)); n < 85 || n > 100 {
			t.Errorf("%d words", n)
		}
		begins[text[:8]] = true
	}
	if len(begins) != 203 {
		t.Errorf("%d beginnings", len(begins))
	}
	if MakeUp(100, 6).at(0).Messages[0].Content == p.at(0).Messages[0].Content {
		t.Error("two runs send the same prompt")
	}
}

// Lists of models are read in every form.
func TestModelNames(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`{"data":[{"id":"a","object":"model"},{"id":"b"}]}`:             {"a", "b"},
		`{"models":[{"name":"a:latest","model":"a:latest"}]}`:           {"a:latest"},
		`{"models":[{"name":"a"}],"object":"list","data":[{"id":"a"}]}`: {"a"},
		`{"data":null}`: nil, `[]`: nil, `{"data":[1,{"id":2},{"id":"c"}]}`: {"c"}, `{"data":[{"id":`: nil, ``: nil,
	} {
		if diff := cmp.Diff(want, modelNames([]byte(body))); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func FuzzModelNames(f *testing.F) {
	f.Add([]byte(`{"data":[{"id":"a"}],"models":[{"name":"b"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, name := range modelNames(body) {
			if name == "" {
				t.Fatal("a model without a name")
			}
		}
	})
}

// The address is what SDKs take, and the model is the first that can chat.
func TestFind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url     string
		dialect Dialect
		want    string
	}{
		{"http://h", OpenAI, "http://h/v1"}, {"http://h/", OpenAI, "http://h/v1"}, {"https://h/v1/", OpenAI, "https://h/v1"}, {"https://h/openai/v1", OpenAI, "https://h/openai/v1"},
		{"http://h/v1", Anthropic, "http://h"}, {"http://h/gpu/", Ollama, "http://h/gpu"},
	} {
		got, err := Target{URL: test.url, Dialect: test.dialect, Model: "m"}.Find(t.Context())
		if err != nil || got.URL != test.want {
			t.Errorf("%s: got %s, %v", test.url, got.URL, err)
		}
	}
	for url, words := range map[string]string{
		"localhost:8080": "must look like http://", "ftp://h": "must look like", "http://": "must look like", "http://u:sk-secret@h": "must not contain a user", "http://h/?a": "must end with its path",
	} {
		if _, err := (Target{URL: url, Dialect: OpenAI}).Find(t.Context()); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "sk-secret") {
			t.Errorf("%s: got %v", url, err)
		}
	}
	if _, err := (Target{URL: "http://h", Dialect: "grpc"}).Find(t.Context()); err == nil {
		t.Error("no error for an unknown dialect")
	}
	fake := fakellm.Start(t, "openai", fakellm.Models("text-embedding-3", "chat", "other"))
	target := Target{URL: fake.URL(), Dialect: OpenAI}
	if got, err := target.Find(t.Context()); err != nil || got.Model != "chat" {
		t.Errorf("got %q, %v", got.Model, err)
	}
	if got, err := target.FindLike(t.Context(), "other"); err != nil || got.Model != "other" {
		t.Errorf("got %q, %v", got.Model, err)
	}
	if _, err := target.FindLike(t.Context(), "mine"); err == nil || !strings.Contains(err.Error(), "chat, other") {
		t.Errorf("got %v", err)
	}
	only := fakellm.Start(t, "openai", fakellm.Models("only"))
	if got, err := (Target{URL: only.URL(), Dialect: OpenAI}).FindLike(t.Context(), "mine"); err != nil || got.Model != "only" {
		t.Errorf("got %q, %v", got.Model, err)
	}
}
