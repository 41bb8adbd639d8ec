package openai

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
)

func TestAssembler(t *testing.T) {
	t.Parallel()
	const head = `"id":"c1","object":"chat.completion.chunk","created":7,"model":"m"`
	for _, test := range []struct{ name, chunks, want string }{
		{"text", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
{` + head + `,"choices":[{"index":0,"delta":{"content":"Hel\n"},"finish_reason":null}],"obfuscation":"x"}
{` + head + `,"choices":[{"index":0,"delta":{"content":"lo \"you\""},"finish_reason":null}],"obfuscation":"xyz"}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
{` + head + `,"choices":[],"usage":{"prompt_tokens":1}}
[DONE]`, `{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hel\nlo \"you\""},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`},
		{"tool calls", `{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}]}`},
		{"two choices, reasoning, logprobs", `{` + head + `,"choices":[{"index":1,"delta":{"role":"assistant","reasoning_content":"h"},"logprobs":{"content":[{"token":"h"}],"refusal":null}}]}
{` + head + `,"choices":[{"index":0,"delta":{"role":"assistant","content":"b"}}]}
{` + head + `,"choices":[{"index":1,"delta":{"reasoning_content":"m"},"logprobs":{"content":[{"token":"m"}],"refusal":null},"finish_reason":"stop"},{"index":0,"delta":{},"finish_reason":"length","stop_reason":5}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":1,"message":{"role":"assistant","reasoning_content":"hm","content":null},"logprobs":{"content":[{"token":"h"},{"token":"m"}],"refusal":null},"finish_reason":"stop"},{"index":0,"message":{"role":"assistant","content":"b"},"stop_reason":5,"logprobs":null,"finish_reason":"length"}]}`},
		{"completion", `{"id":"t","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}
{"id":"t","object":"text_completion","created":2,"model":"m","choices":[{"index":0,"text":"b","logprobs":null,"finish_reason":"stop"}]}`,
			`{"id":"t","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"ab","logprobs":null,"finish_reason":"stop"}]}`},
		{"finish reasons that name none before and after the real one", `{` + head + `,"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
{` + head + `,"choices":[{"index":0,"delta":{},"finish_reason":"null"}]}`,
			`{"id":"c1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"content":"a","role":"assistant"},"logprobs":null,"finish_reason":"stop"}]}`},
		{"unknown member that changes", `{` + head + `,"choices":[{"index":0,"delta":{"images":[1]}}]}
{` + head + `,"choices":[{"index":0,"delta":{"images":[2]}}]}`, ""},
		{"tool call without an index", `{` + head + `,"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a"}]}}]}`, ""},
		{"half a surrogate pair", `{` + head + `,"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}`, ""},
		{"nothing", `[DONE]`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var a Assembler
			for chunk := range strings.SplitSeq(test.chunks, "\n") {
				a.Add([]byte(chunk))
			}
			got, ok := a.Answer()
			if ok != (test.want != "") || string(got) != test.want {
				t.Errorf("%s\n%s", got, cmp.Diff(test.want, string(got)))
			}
		})
	}
}

const wholeChat = `{"id":"c","object":"chat.completion","created":1,"model":"m","system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant","content":null,
"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls"},
{"index":1,"message":{"role":"assistant","content":"hi"},"logprobs":{"content":[{"token":"hi"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`

func TestSplit(t *testing.T) {
	t.Parallel()
	const head = `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[`
	want := []string{
		head + `{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},"logprobs":null,"finish_reason":null}]}`,
		head + `{"index":1,"delta":{"role":"assistant","content":"hi"},"logprobs":{"content":[{"token":"hi"}]},"finish_reason":null}]}`,
		head + `{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
		head + `{"index":1,"delta":{},"finish_reason":"stop"}]}`,
		"usage " + head + `],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
	}
	var got []string
	if !Split([]byte(wholeChat), func(data []byte, usage bool) {
		if usage {
			data = append([]byte("usage "), data...)
		}
		got = append(got, string(data))
	}) {
		t.Fatal("Split rejected a valid answer")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, body := range []string{`{}`, `{"choices":[]}`, `{"choices":[{"index":0}]}`, `{"choices":1}`, `[]`} {
		if Split([]byte(body), func([]byte, bool) {}) {
			t.Errorf("Split accepted %s", body)
		}
	}
}

// FuzzSplit checks that the events of any answer are valid JSON, and so is the answer that they are assembled to.
func FuzzSplit(f *testing.F) {
	f.Add([]byte(wholeChat))
	f.Add([]byte(`{"id":"t","object":"text_completion","choices":[{"text":"a\nb","index":0,"logprobs":{"tokens":["a"]},"finish_reason":"stop"}],"usage":null}`))
	f.Add([]byte(`{"choices":[{"index":0,"message":{"content":"a","x":{"y":[1]}},"z":null}],"error":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var a Assembler
		if !Split(body, func(data []byte, _ bool) {
			if !json.Valid(data) {
				t.Fatalf("%q became %q", body, data)
			}
			a.Add(data)
		}) {
			return
		}
		whole, ok := a.Answer()
		if ok && !json.Valid(whole) {
			t.Fatalf("%q became %q", body, whole)
		}
	})
}

func TestSplitAndAssemble(t *testing.T) {
	t.Parallel()
	var a Assembler
	Split([]byte(wholeChat), func(data []byte, _ bool) { a.Add(data) })
	whole, ok := a.Answer()
	if !ok {
		t.Fatal("the events of a whole answer were not assembled")
	}
	var c, d canonjson.Encoder
	want, _ := c.Value([]byte(wholeChat))
	got, err := d.Value(whole)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s: %v", whole, err)
	}
}
