package dialect

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

func TestChatFromSimple(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, want, problem string }{
		{"message", `{"message":"Hello"}`, `{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":false}`, ""},
		{"limit", `{"message":"Hello","max_tokens":5}`, `{"model":"m","messages":[{"role":"user","content":"Hello"}],"max_completion_tokens":5,"stream":false}`, ""},
		{"null limit", `{"max_tokens":null,"message":"Hello"}`, `{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":false}`, ""},
		{"unknown members", `{"Message":1,"message":"Hello","session":{"id":[1]},"temperature":"hot"}`, `{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":false}`, ""},
		{"characters", `{"m\u0065ssage":"\"Grüße\"\n\ud83d\ude00"}`, `{"model":"m","messages":[{"role":"user","content":"\"Grüße\"\n😀"}],"stream":false}`, ""},
		{"no members", `{}`, "", `"message" is missing; send {"message": "Hello"}.`},
		{"another spelling", `{"Message":"Hello"}`, "", `"message" is missing; send {"message": "Hello"}.`},
		{"empty message", `{"message":""}`, "", `"message" is empty.`},
		{"white space", `{"message":" \n"}`, "", `"message" is empty.`},
		{"null message", `{"message":null}`, "", `"message" must be a string, not null.`},
		{"list", `{"message":["Hello"]}`, "", `"message" must be a string, not ["Hello"].`},
		{"two messages", `{"message":"a","mess\u0061ge":"b"}`, "", `"message" is there twice; send it once.`},
		{"two limits", `{"max_tokens":null,"max_tokens":1,"message":"a"}`, "", `"max_tokens" is there twice; send it once.`},
		{"limit of zero", `{"message":"a","max_tokens":0}`, "", `"max_tokens" must be a whole number of at least 1, not 0.`},
		{"limit in quotes", `{"message":"a","max_tokens":"5"}`, "", `"max_tokens" must be a whole number of at least 1, not "5".`},
		{"broken limit", `{"message":"a","max_tokens":1.5}`, "", `"max_tokens" must be a whole number of at least 1, not 1.5.`},
		{"huge limit", `{"message":"a","max_tokens":9999999999}`, "", `"max_tokens" must be a whole number of at least 1, not 9999999999.`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var o jsonspan.Object
			if err := o.Scan([]byte(test.body)); err != nil {
				t.Fatal(err)
			}
			body, _, err := chatFromSimple(false)(&o, ChatOptions{Model: "m"})
			if string(body) != test.want {
				t.Errorf("got  %s\nwant %s", body, test.want)
			}
			problem := ""
			if err != nil {
				problem = err.Message
				if err.Status != 422 {
					t.Errorf("status %d", err.Status)
				}
			}
			if problem != test.problem {
				t.Errorf("got  %s\nwant %s", problem, test.problem)
			}
		})
	}
}

func TestSimpleWhole(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, want string }{
		{"text", `{"id":"1","choices":[{"message":{"role":"assistant","content":"Hello\r\n\"World\""}},{"message":{"content":"No"}}]}`, `{"response":"Hello\u000d\n\"World\""}`},
		{"no text", `{"choices":[{"message":{"content":null,"reasoning_content":"Hm"},"finish_reason":"length"}]}`, `{"response":""}`},
		{"refusal", `{"choices":[{"message":{"content":null,"refusal":"I can't."}}]}`, `{"response":"I can't."}`},
		{"parts", `{"choices":[{"message":{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}`, `{"response":"ab"}`},
		{"no choice", `{"choices":[]}`, ""},
		{"no message", `{"choices":[{"text":"a"}]}`, ""},
		{"no object", `[]`, ""},
	} {
		got, ok := SimpleFromChat(nil, []byte(test.body), &About{})
		if ok != (test.want != "") || ok && string(got) != test.want {
			t.Errorf("%s: got %s, %v; want %s", test.name, got, ok, test.want)
		}
	}
}

// simple returns the stream of the simple chat for texts that come one by one.
func simple(t testing.TB, texts ...string) string {
	t.Helper()
	var s SimpleStream
	stream := s.Append(nil, []byte(`{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`))
	for _, text := range texts {
		content, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		stream = s.Append(stream, fmt.Appendf(nil, `{"choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`, content))
	}
	stream = s.Append(stream, []byte(`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`))
	stream = s.Append(stream, []byte(`{"choices":[],"usage":{"prompt_tokens":1}}`))
	stream = s.Append(stream, []byte(`[DONE]`))
	return string(s.Append(stream, []byte(`{"choices":[{"delta":{"content":"late"}}]}`)))
}

func TestSimpleStream(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		texts []string
		want  string
	}{
		{"words", []string{"Hello", " world"}, "data: Hello\n\ndata:  world\n\n"},
		{"lines", []string{"a\nb\n", "\n", "c"}, "data: a\ndata: b\ndata: \n\ndata: \ndata: \n\ndata: c\n\n"},
		{"line breaks of all kinds", []string{"a\r\nb\rc\vd\fe\u0085f\u2028g\u2029h\x1ci"}, "data: a\ndata: b\ndata: c\ndata: d\ndata: e\ndata: f\ndata: g\ndata: h\ndata: i\n\n"},
		{"a line break in two parts", []string{"a\r", "\n", "\nb"}, "data: a\ndata: \n\ndata: \ndata: b\n\n"},
		{"fields of events", []string{"event: x\nid: 1\n\n: c"}, "data: event: x\ndata: id: 1\ndata: \ndata: : c\n\n"},
		{"the end as text", []string{"[DONE]"}, "data: [\n\ndata: DONE]\n\n"},
		{"the end as a line", []string{"a\n[DONE]\nb"}, "data: a\ndata: [\n\ndata: DONE]\ndata: b\n\n"},
		{"no text", nil, ""},
	} {
		if diff := cmp.Diff(test.want+"data: [DONE]\n\n", simple(t, test.texts...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// readEvents reads a stream by the standard, until [DONE].
func readEvents(t testing.TB, stream string) (text string) {
	t.Helper()
	for rest := []byte(stream); len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		if string(e.Data) == "[DONE]" {
			if len(rest) > 0 {
				t.Fatalf("%q follows the end", rest)
			}
			return text
		}
		text += string(e.Data)
	}
	t.Fatalf("no end: %q", stream)
	return ""
}

// readLines reads a stream as the client of a quick start does: line by line, as Python's splitlines finds them, until [DONE].
func readLines(t testing.TB, stream string) (text string) {
	t.Helper()
	for _, line := range strings.FieldsFunc(stream, endsLine) {
		token, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			t.Fatalf("the line %q is lost", line)
		}
		if token == "[DONE]" {
			return text
		}
		text += token
	}
	t.Fatalf("no end: %q", stream)
	return ""
}

// checkSimpleStream checks what the readers get of a text that comes in two parts.
func checkSimpleStream(t testing.TB, head, tail string) {
	t.Helper()
	stream := simple(t, head, tail)
	normal := func(r rune) rune {
		if endsLine(r) {
			return '\n'
		}
		return r
	}
	want := strings.Map(normal, strings.ReplaceAll(head+tail, "\r\n", "\n"))
	if got := readEvents(t, stream); got != want {
		t.Errorf("%q, %q: by events %q, want %q", head, tail, got, want)
	}
	if got := readLines(t, stream); got != strings.ReplaceAll(want, "\n", "") {
		t.Errorf("%q, %q: by lines %q", head, tail, got)
	}
}

func TestSimpleStreamSplitAnywhere(t *testing.T) {
	t.Parallel()
	const text = "Grüße\r\n\r\n[DONE]\n\ndata: x\u2028[DONE]\r [DONE]\n: 😀\n"
	for i := range len(text) + 1 {
		if utf8.ValidString(text[:i]) { // an event has whole characters
			checkSimpleStream(t, text[:i], text[i:])
		}
	}
}

func FuzzSimpleStream(f *testing.F) {
	f.Add("a\r", "\n[DONE]\u2028")
	f.Fuzz(func(t *testing.T, head, tail string) {
		if utf8.ValidString(head) && utf8.ValidString(tail) {
			checkSimpleStream(t, head, tail)
		}
	})
}

func FuzzChatFromSimple(f *testing.F) {
	for _, body := range []string{`{"message":"Hello","max_tokens":5}`, `{"message":"\ud800","message":1}`, `{"max_tokens":-1}`, `{"message":"<\u2028&>"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var o jsonspan.Object
		if o.Scan(body) != nil {
			return
		}
		chat, _, err := chatFromSimple(true)(&o, ChatOptions{Model: "m"})
		if err != nil {
			if !json.Valid(AppendSimpleError(nil, err)) {
				t.Errorf("the error is not JSON: %s", AppendSimpleError(nil, err))
			}
			return
		}
		var simple struct {
			Message   string
			MaxTokens int `json:"max_tokens"`
		}
		var request openai.Request
		if err := request.Parse(chat); err != nil || request.Model != "m" || !request.Stream {
			t.Fatalf("%s: %v", chat, err)
		}
		for _, m := range o.Members { // encoding/json ignores the case of keys
			switch string(jsonspan.Unescape(m.Key.Of(body))) {
			case "message":
				simple.Message, _ = jsonspan.String(m.Value.Of(body))
			case "max_tokens":
				_ = json.Unmarshal(m.Value.Of(body), &simple.MaxTokens)
			}
		}
		if s := request.Signals(); s.Content() != simple.Message || s.MaxTokens != simple.MaxTokens || s.Messages != 1 {
			t.Errorf("%s became %s", body, chat)
		}
	})
}
