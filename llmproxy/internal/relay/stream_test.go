package relay

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/anthropic"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// The events that chat streams are made of.
const (
	role     = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	hi       = `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n"
	there    = `data: {"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":null}]}` + "\n\n"
	stop     = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	stop1    = `data: {"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}` + "\n\n"
	usage    = `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n\n"
	counted  = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}` + "\n\n"
	done     = "data: [DONE]\n\n"
	failure  = `{"message":"out of memory","code":500}`
	errEvent = `data: {"error":` + failure + "}\n\n"
	ping     = ": ping\n\n"
	page     = "data: <html><body>502 Bad Gateway</body></html>\n\n"
	half     = `data: {"choices":[{"index":0,"delta":{"content":" the` + "\n\n"
	braced   = `data: {"choices":[{"index":0,"delta":{"content":" there"}` + "\n\n"
)

var used = tokens.Usage{Input: 3, Output: 2}

func crlf(events string) string { return strings.ReplaceAll(events, "\n", "\r\n") }

// streams is what upstreams send, and what reaches the client of it.
var streams = []struct {
	name, in string
	hide     bool
	choices  int
	want     result
}{

	{"usual", role + hi + there + stop + done, true, 1, result{Body: role + hi + there + stop + done, Events: 5}},
	{"an empty answer is one", role + stop + done, true, 1, result{Body: role + stop + done, Events: 3}},
	{"comments", ping + role + ping + hi + ping + stop + ping + done + ping, true, 1,
		result{Body: ping + role + ping + hi + ping + stop + ping + done, Events: 4}},
	{"events without data", "retry: 3000\n\n" + role + "event: ping\n\n" + hi + "id: 7\n\n" + stop + done, true, 1,
		result{Body: role + hi + stop + done, Events: 4}},
	{"events without data, with CRLF", crlf(role+"event: ping\n\n"+hi+"id: 7\n\n"+stop+usage) + done, true, 1,
		result{Body: crlf(role+hi+stop) + done, Usage: used, HasUsage: true, Events: 4}},
	{"events that end with a blank CR", role + "id: 7\n\r" + hi + "id: 7\n\r\n" + stop + ": ping\n\r\n" + done, true, 1,
		result{Body: role + hi + stop + ": ping\n\r\n" + done, Events: 4}},
	{"blank lines", role + "\n" + hi + "\r\n" + stop + done, true, 1,
		result{Body: role + "\n" + hi + "\r\n" + stop + done, Events: 4}},
	{"usage hidden", role + hi + stop + usage + done, true, 1,
		result{Body: role + hi + stop + done, Usage: used, HasUsage: true, Events: 4}},
	{"usage asked for", role + hi + stop + usage + done, false, 1,
		result{Body: role + hi + stop + usage + done, Usage: used, HasUsage: true, Events: 5}},
	{"usage in an event that says more", role + hi + counted + done, true, 1,
		result{Body: role + hi + counted + done, Usage: used, HasUsage: true, Events: 4}},
	{"usage before any content", usage + hi + stop + done, true, 1,
		result{Body: hi + stop + done, Usage: used, HasUsage: true, Events: 3}},
	{"a finish without [DONE]", role + hi + stop, true, 1, result{Body: role + hi + stop + done, Events: 3}},
	{"a finish and usage without [DONE]", role + hi + stop + usage, true, 1,
		result{Body: role + hi + stop + done, Usage: used, HasUsage: true, Events: 3}},
	{"[DONE] without its blank line", hi + stop + "data: [DONE]", true, 1, result{Body: hi + stop + done, Events: 3}},
	{"[DONE] without a finish", hi + done, true, 1, result{Body: hi + done, Events: 2}},
	{"events behind [DONE]", hi + stop + done + there + usage, true, 1, result{Body: hi + stop + done, Events: 3}},
	{"two choices", hi + stop + stop1 + done, true, 2, result{Body: hi + stop + stop1 + done, Events: 4}},
	{"two choices without [DONE]", hi + stop + stop1, true, 2, result{Body: hi + stop + stop1 + done, Events: 3}},
	{"one choice of two", hi + stop, true, 2, result{Sent: "cut", Body: hi + stop, Events: 2}},
	{"a finish reason that names none, in every chunk", unnamed(role) + unnamed(hi) + stop + done, true, 1,
		result{Body: unnamed(role) + unnamed(hi) + stop + done, Events: 4}},
	{"such a role alone", unnamed(role), true, 1, result{Held: "cut"}},
	{"such chunks alone", unnamed(role) + unnamed(hi), true, 1, result{Sent: "cut", Body: unnamed(role) + unnamed(hi), Events: 2}},
	{"such chunks with usage", unnamed(hi) + usage, true, 1, result{Sent: "cut", Body: unnamed(hi), Usage: used, HasUsage: true, Events: 1}},
	{"such chunks, many of one choice of two", unnamed(hi) + unnamed(hi), true, 2, result{Sent: "cut", Body: unnamed(hi) + unnamed(hi), Events: 2}},
	{"the word null in place of null", strings.ReplaceAll(hi, "null", `"null"`), true, 1, result{Sent: "cut", Body: strings.ReplaceAll(hi, "null", `"null"`), Events: 1}},
	{"CRLF", crlf(role + hi + stop + done), true, 1, result{Body: crlf(role + hi + stop + done), Events: 4}},

	{"timings beside the usage", hi + stop + withTimings(usage) + done, true, 1,
		result{Body: hi + stop + `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"predicted_per_second":91.2}}` + "\n\n" + done, Usage: used, HasUsage: true, Events: 4}},
	{"timings beside the usage that was asked for", hi + stop + withTimings(usage) + done, false, 1,
		result{Body: hi + stop + withTimings(usage) + done, Usage: used, HasUsage: true, Events: 4}},

	{"nothing", "", true, 1, result{Held: "cut"}},
	{"comments alone", ping + ping, true, 1, result{Held: "cut"}},
	{"a role alone", role, true, 1, result{Held: "cut"}},
	{"[DONE] alone", done, true, 1, result{Held: "cut"}},
	{"cut in the first content", role + hi[:40], true, 1, result{Held: "cut"}},
	{"an error first", errEvent, true, 1, result{Held: "event " + failure}},
	{"an error after the role", ping + role + errEvent + done, true, 1, result{Held: "event " + failure}},
	{"an error as text", role + `data: {"error":"crashed"}` + "\n\n", true, 1, result{Held: `event "crashed"`}},
	{"an error field", "error: " + failure + "\n\n", true, 1, result{Held: "event " + failure}},
	{"a page first", page, true, 1, result{Held: "malformed"}},
	{"half an event before content", ping + role + half + hi + stop + done, true, 1, result{Held: "malformed"}},
	{"text in an error event", role + "event: error\ndata: Internal Server Error\n\n", true, 1, result{Held: "malformed"}},

	{"a page", role + hi + page + stop + done, true, 1, result{Sent: "malformed", Body: role + hi, Events: 2}},
	{"half an event", hi + half + stop + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"half an event that ends in a brace", hi + braced + stop + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"two events in one", hi + strings.TrimSpace(there) + strings.TrimPrefix(there, "data: ") + stop + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"text", hi + "data: out of memory\n\n", true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"a list", hi + "data: []\n\n" + stop + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"text in a named event", hi + "event: note\ndata: text\n\n" + stop + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"half a finish", hi + stop[:len(stop)-4] + "\n\n" + done, true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"a page behind the finish", hi + stop + page + usage + done, true, 1, result{Body: hi + stop + done, Events: 2}},
	{"half of a usage behind the finish", hi + stop + usage[:40] + "\n\n" + done, false, 1, result{Body: hi + stop + done, Events: 2}},
	{"a page behind [DONE]", hi + stop + done + page, true, 1, result{Body: hi + stop + done, Events: 3}},
	{"[DONE] with spaces", hi + stop + "data:  [DONE] \n\n", true, 1, result{Body: hi + stop + "data:  [DONE] \n\n", Events: 3}},
	{"[done]", hi + stop + "data: [done]\n\n", true, 1, result{Body: hi + stop + done, Events: 2}},
	{"[done] without a finish", hi + "data: [done]\n\n", true, 1, result{Sent: "malformed", Body: hi, Events: 1}},
	{"empty data", "data:\n\n" + role + "data: \n\n" + hi + "data\n\n" + stop + done, true, 1, result{Body: role + hi + stop + done, Events: 4}},
	{"data over several lines", hi + "data: {\"choices\":[{\ndata: \"delta\":{\"content\":\"x\"}}]}\n\n" + stop + done, true, 1,
		result{Body: hi + "data: {\"choices\":[{\ndata: \"delta\":{\"content\":\"x\"}}]}\n\n" + stop + done, Events: 4}},
	{"half a surrogate", hi + `data: {"choices":[{"delta":{"content":"\ud83d"}}]}` + "\n\n" + stop + done, true, 1,
		result{Body: hi + `data: {"choices":[{"delta":{"content":"\ud83d"}}]}` + "\n\n" + stop + done, Events: 4}},

	{"cut", role + hi + there, true, 1, result{Sent: "cut", Body: role + hi + there, Events: 3}},
	{"cut in an event", role + hi + there[:40], true, 1, result{Sent: "cut", Body: role + hi, Events: 2}},
	{"cut in the finish", hi + strings.TrimSuffix(stop, "\n"), true, 1, result{Sent: "cut", Body: hi, Events: 1}},
	{"an error", role + hi + errEvent + done, true, 1, result{Sent: "event " + failure, Body: role + hi, Events: 2}},
	{"an error field behind content", hi + "error: " + failure + "\n\n", true, 1, result{Sent: "event " + failure, Body: hi, Events: 1}},
}

// unnamed returns a chunk whose finish reason is empty instead of null.
func unnamed(chunk string) string { return strings.ReplaceAll(chunk, "null", `""`) }

// withTimings returns a chunk of llama.cpp, which says more in it than its usage.
func withTimings(usage string) string {
	return strings.TrimSuffix(usage, "}\n\n") + `,"timings":{"predicted_per_second":91.2}}` + "\n\n"
}

func TestStream(t *testing.T) {
	t.Parallel()
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, HideUsage: tt.hide, Choices: tt.choices}
			for name, src := range map[string]io.Reader{
				"whole":          strings.NewReader(tt.in),
				"byte by byte":   iotest.OneByteReader(strings.NewReader(tt.in)),
				"with the error": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				if diff := cmp.Diff(tt.want, pass(t, "text/event-stream; charset=utf-8", src, expect, newClient())); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// The text of an upstream's error stays as it is when the memory in which it came is used for another answer.
func TestAnErrorOutlivesItsBuffer(t *testing.T) {
	t.Parallel()
	s := newStream(nil, Expect{Endpoint: endpoint(t, "/v1/chat/completions")}, nil)
	for name, event := range map[string]string{"an event": errEvent, "a field": "error: " + failure + "\n\n"} {
		batch := []byte(event)
		_, err := s.first(batch)
		for i := range batch {
			batch[i] = 'x'
		}
		if got := kindOf(err); got != "event "+failure {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A stream that passes in Anthropic's format is complete only with its last event, and gets no [DONE].
func TestNativeStream(t *testing.T) {
	t.Parallel()
	event := func(kind, rest string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + rest + "}\n\n"
	}
	start := event("message_start", `,"message":{"usage":{"input_tokens":3,"output_tokens":1}}`)
	open := event("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`)
	text := event("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"Hi"}`)
	reason := event("message_delta", `,"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}`)
	stop := event("message_stop", "")
	overloaded := event("error", `,"error":{"type":"overloaded_error"}`)
	used := tokens.Usage{Input: 3, Output: 2}
	for _, tt := range []struct {
		name, in string
		want     result
	}{
		{"complete", start + open + text + reason + stop, result{Body: start + open + text + reason + stop, HasUsage: true, Usage: used, Events: 5}},
		{"no blank line at the end", start + text + reason + strings.TrimSuffix(stop, "\n"), result{Body: start + text + reason + stop, HasUsage: true, Usage: used, Events: 4}},
		{"what follows the end", start + text + reason + stop + text, result{Body: start + text + reason + stop, HasUsage: true, Usage: used, Events: 4}},
		{"no last event", start + text + reason, result{Sent: "cut", Body: start + text + reason, HasUsage: true, Usage: used, Events: 3}},
		{"cut in an event", start + text + stop[:20], result{Sent: "cut", Body: start + text, HasUsage: true, Usage: tokens.Usage{Input: 3, Output: 1}, Events: 2}},
		{"nothing but an end", start + stop, result{Held: "cut"}},
		{"cut before its content", start + open, result{Held: "cut"}},
		{"an empty answer", start + reason + stop, result{Body: start + reason + stop, HasUsage: true, Usage: used, Events: 3}},
		{"an error before the content", start + overloaded, result{Held: `event {"type":"overloaded_error"}`}},
		{"an error after it", start + text + overloaded, result{Sent: `event {"type":"overloaded_error"}`, Body: start + text, HasUsage: true, Usage: tokens.Usage{Input: 3, Output: 1}, Events: 2}},
		{"not JSON", start + text + "data: x\n\n", result{Sent: "malformed", Body: start + text, HasUsage: true, Usage: tokens.Usage{Input: 3, Output: 1}, Events: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect := Expect{Endpoint: openai.Messages, Events: anthropic.Events{}, Stream: true, Choices: 1}
			for name, src := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
				if diff := cmp.Diff(tt.want, pass(t, "text/event-stream", src, expect, newClient())); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// Events of the Responses API have names, and no [DONE].
func TestTypedStream(t *testing.T) {
	t.Parallel()
	event := func(kind, rest string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + rest + "}\n\n"
	}
	created := event("response.created", `,"response":{"usage":null}`)
	delta := event("response.output_text.delta", `,"delta":"Hi"`)
	completed := event("response.completed", `,"response":{"usage":{"input_tokens":3,"output_tokens":2}}`)
	failed := event("response.failed", `,"response":{"error":`+failure+`}`)
	counted := event("response.failed", `,"response":{"error":`+failure+`,"usage":{"input_tokens":3,"output_tokens":2}}`)
	incomplete := event("response.incomplete", `,"response":{"usage":{"input_tokens":3,"output_tokens":2}}`)
	odd := event("response.completed", `,"response":{"error":`+failure+`}`)
	plain := event("error", `,"code":"x","message":"m"`)
	const plainValue = `{"type":"error","code":"x","message":"m"}`
	for _, tt := range []struct {
		name, in string
		want     result
	}{
		{"usual", created + delta + completed, result{Body: created + delta + completed, Usage: used, HasUsage: true, Events: 3}},
		{"cut", created + delta, result{Sent: "cut", Body: created + delta, Events: 2}},
		{"no content", created, result{Held: "cut"}},
		{"half an event", created + delta + "event: response.output_text.delta\ndata: {\"type\":\"response.outp\n\n" + completed, result{Sent: "malformed", Body: created + delta, Events: 2}},
		{"a page", created + page, result{Held: "malformed"}},
		{"a page behind the end", created + delta + completed + page, result{Body: created + delta + completed, Usage: used, HasUsage: true, Events: 3}},
		{"failed at once", created + failed, result{Held: "event " + failure}},
		{"failed behind content", created + delta + failed, result{Sent: "event " + failure, Body: created + delta + failed, Events: 3}},
		{"failed, with its usage", created + delta + counted, result{Sent: "event " + failure, Body: created + delta + counted, Usage: used, HasUsage: true, Events: 3}},
		{"more after it", created + delta + failed + delta, result{Sent: "event " + failure, Body: created + delta + failed, Events: 3}},
		{"an error", created + delta + plain, result{Sent: "event " + plainValue, Body: created + delta, Events: 2}},
		{"an error ends the stream at once", created + delta + plain + failed, result{Sent: "event " + plainValue, Body: created + delta, Events: 2}},
		{"incomplete", created + delta + incomplete, result{Body: created + delta + incomplete, Usage: used, HasUsage: true, Events: 3}},
		{"completed with an error", created + delta + odd, result{Sent: "event " + failure, Body: created + delta + odd, Events: 3}},
		{"completed without its blank line", created + delta + strings.TrimSpace(completed), result{Body: created + delta + completed, Usage: used, HasUsage: true, Events: 3}},
		{"failed without its blank line", created + delta + strings.TrimSpace(failed), result{Sent: "event " + failure, Body: created + delta + failed, Events: 3}},
		{"half of completed", created + delta + completed[:len(completed)-3], result{Sent: "cut", Body: created + delta, Events: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect := Expect{Endpoint: endpoint(t, "/v1/responses"), Stream: true, Choices: 1}
			if diff := cmp.Diff(tt.want, pass(t, "text/event-stream", strings.NewReader(tt.in), expect, newClient())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Endpoints whose answers may be anything may stream anything.
func TestAnyStream(t *testing.T) {
	t.Parallel()
	const (
		word = `data: {"object":"transcription.chunk","choices":[{"delta":{"content":" Mary"},"finish_reason":null}]}` + "\n\n"
		text = "data: 00:01 had a little lamb\n\n"
	)
	want := result{Body: text + word + text + done, Events: 4}
	expect := Expect{Endpoint: endpoint(t, "/v1/audio/transcriptions"), Stream: true, Choices: 1}
	if diff := cmp.Diff(want, pass(t, "text/event-stream", strings.NewReader(want.Body), expect, newClient())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStreamBounds(t *testing.T) {
	t.Parallel()
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, HideUsage: true, Choices: 1}
	long := func(size int) string {
		const head, tail = `data: {"choices":[{"delta":{"content":"`, `"}}]}` + "\n\n"
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	comments := func(size int) string { return strings.Repeat(ping, size/len(ping)) }
	tests := []struct{ name, in, held, sent string }{
		{"little before the content", comments(maxHeld-1000) + hi + stop + done, "", ""},
		{"a line of 16 MiB", long(sse.MaxEvent) + stop + done, "", ""},
		{"such a line behind content", hi + long(sse.MaxEvent) + stop + done, "", ""},
		{"a longer line", long(sse.MaxEvent+1) + stop + done, sse.ErrTooLong.Error(), ""},
		{"a longer line behind content", hi + long(sse.MaxEvent+1) + stop + done, "", sse.ErrTooLong.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := pass(t, "text/event-stream", strings.NewReader(tt.in), expect, newClient())
			if !strings.Contains(got.Held, tt.held) || (got.Held == "") != (tt.held == "") {
				t.Errorf("held: %q, want %q", got.Held, tt.held)
			}
			if !strings.Contains(got.Sent, tt.sent) || (got.Sent == "") != (tt.sent == "") {
				t.Errorf("sent: %q, want %q", got.Sent, tt.sent)
			}
			if tt.held == "" && tt.sent == "" && got.Body != tt.in {
				t.Errorf("%d bytes came, want all %d", len(got.Body), len(tt.in))
			}
		})
	}
}

// The error that ended the connection is returned to the caller.
func TestStreamReadErrors(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset")
	expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, Choices: 1}
	for _, tt := range []struct {
		name, in string
		complete bool
	}{{"before content", role, false}, {"behind content", role + hi, false}, {"behind the finish", hi + stop, true}, {"behind [DONE]", hi + stop + done, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res, _ := respond("text/event-stream", io.MultiReader(strings.NewReader(tt.in), iotest.ErrReader(reset)))
			answer, err := Hold(res, expect)
			if err == nil {
				defer answer.Close()
				err = answer.Send(newClient(), false)
			}
			if tt.complete != (err == nil) || !tt.complete && !errors.Is(err, reset) {
				t.Errorf("got %v", err)
			}
		})
	}
}
