package relay

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An answer must come in the form that was asked for: SDKs read nothing out of the other one, and take that for an answer.
func TestOtherFormThanAskedFor(t *testing.T) {
	t.Parallel()
	const (
		answer = `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
		begin  = `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}` + "\n\n"
		end    = `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		usage  = `data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"
	)
	for _, tt := range []struct {
		name, path, contentType, in string
		stream, hide                bool
		want                        result
		as                          string // the Content-Type that the client gets
	}{
		{"a whole for a stream", "/v1/chat/completions", "application/json", answer, true, false, result{Body: begin + end + usage + done, Usage: used, HasUsage: true, Events: 4}, "text/event-stream"},
		{"a usage that was not asked for", "/v1/chat/completions", "application/json", answer, true, true, result{Body: begin + end + done, Usage: used, HasUsage: true, Events: 3}, "text/event-stream"},
		{"an error for a stream", "/v1/chat/completions", "application/json", `{"error":` + failure + `}`, true, false, result{Held: "event " + failure}, ""},
		{"what cannot be split", "/v1/chat/completions", "application/json", `{"choices":[]}`, true, false, result{Held: ErrNoStream.Error()}, ""},
		{"too large to be split", "/v1/chat/completions", "application/json", answer + strings.Repeat(" ", maxHeld), true, false, result{Held: ErrNoStream.Error()}, ""},
		{"a whole response for a stream", "/v1/responses", "application/json", `{"status":"completed"}`, true, false, result{Held: ErrNoStream.Error()}, ""},
		{"a transcription, whose stream may be refused", "/v1/audio/transcriptions", "application/json", `{"text":"Hi"}`, true, false, result{Body: `{"text":"Hi"}`}, "application/json"},
		{"a stream for a whole", "/v1/chat/completions", "text/event-stream", hi + stop + done, false, false, result{Held: ErrUnexpectedStream.Error()}, ""},
		{"a response's stream for a whole", "/v1/responses", "text/event-stream", hi + stop + done, false, false, result{Held: ErrUnexpectedStream.Error()}, ""},
		{"a stream of sound, which the body asks for elsewhere", "/v1/audio/speech", "text/event-stream", hi + stop + done, false, false, result{Body: hi + stop + done, Events: 3}, "text/event-stream"},
		{"no type at all", "/v1/chat/completions", "", answer, false, false, result{Body: answer, Usage: used, HasUsage: true}, "application/json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := newClient()
			got := pass(t, tt.contentType, strings.NewReader(tt.in), Expect{Endpoint: endpoint(t, tt.path), Stream: tt.stream, HideUsage: tt.hide, Choices: 1}, to)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if as := to.header.Get("Content-Type"); as != tt.as {
				t.Errorf("the client was told of %q, want %q", as, tt.as)
			}
		})
	}
}

// After a ping an answer that came whole continues the stream.
func TestSplitAfterPing(t *testing.T) {
	t.Parallel()
	to := newClient()
	res, _ := respond("application/json", strings.NewReader(`{"choices":[{"text":"Hi","finish_reason":"stop"}]}`))
	answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/completions"), Stream: true, Choices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	if !answer.Streams() {
		t.Error("it is no stream")
	}
	if err := answer.Send(to, true); err != nil {
		t.Fatal(err)
	}
	want := `data: {"choices":[{"index":0,"text":"Hi","finish_reason":null}]}` + "\n\n" + `data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}` + "\n\n" + done
	if diff := cmp.Diff(want, to.body.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	to.room = to.body.Len() + 1
	var left *ClientError
	if err := answer.Send(to, true); !errors.As(err, &left) {
		t.Errorf("got %v of a client that left", err)
	}
}
