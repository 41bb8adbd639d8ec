package openai

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
)

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
			a.Add(nil, data)
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
	Split([]byte(wholeChat), func(data []byte, _ bool) { a.Add(nil, data) })
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
