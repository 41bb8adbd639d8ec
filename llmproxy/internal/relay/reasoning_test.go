package relay

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Reasoning under another name gets the one that OpenAI's clients know, in whichever form the answer comes.
func TestReasoningIsNamed(t *testing.T) {
	t.Parallel()
	const (
		think = `data: {"choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}` + "\n\n"
		named = `data: {"choices":[{"index":0,"delta":{"reasoning":"hm","reasoning_content":"hm"},"finish_reason":null}]}` + "\n\n"
		whole = `{"choices":[{"index":0,"message":{"role":"assistant","reasoning":"hm","content":"Hi"},"finish_reason":"stop"}]}`
	)
	for _, tt := range []struct {
		name, contentType, in string
		stream                bool
		want                  string
	}{
		{"a stream", "text/event-stream", role + think + think + hi + stop + done, true, role + named + named + hi + stop + done},
		{"a stream that begins with it", "text/event-stream", think + hi + stop + done, true, named + hi + stop + done},
		{"a whole answer", "application/json", whole, false, strings.Replace(whole, `"hm"`, `"hm","reasoning_content":"hm"`, 1)},
		{"a stream for a client that wants none", "text/event-stream", role + think + hi + stop + done, false,
			`{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi","reasoning":"hm","reasoning_content":"hm"},"logprobs":null,"finish_reason":"stop"}]}`},
		{"a whole answer for a client that wants a stream", "application/json", whole, true,
			`data: {"choices":[{"index":0,"delta":{"role":"assistant","reasoning":"hm","reasoning_content":"hm","content":"Hi"},"finish_reason":null}]}` + "\n\n" + stop + done},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, src := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
				expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: tt.stream, Choices: 1, NameReasoning: true}
				if got := pass(t, tt.contentType, src, expect, newClient()); got.Held+got.Sent != "" || got.Body != tt.want {
					t.Errorf("%+v\nwant %s", got, tt.want)
				}
			}
		})
	}
}
