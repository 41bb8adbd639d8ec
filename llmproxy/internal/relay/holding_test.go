package relay

import (
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// An answer that the client gets translated is held as a whole, within its limit and the memory.
func TestTranslatedWholeIsHeld(t *testing.T) {
	t.Parallel()
	whole := func(n int) string {
		return `{"choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("x", n) + `"},"finish_reason":"stop"}]}`
	}
	for _, test := range []struct {
		name    string
		maximum int64
		size    int
		held    string
	}{
		{"small, without memory", 0, 100, ""},
		{"large", 64 << 20, 3_000_000, ""},
		{"large, without memory", 0, 3_000_000, memory.ErrUsedUp.Error()},
		{"with memory for one copy only", 6 << 20, 3_000_000, memory.ErrUsedUp.Error()},
		{"too large", 256 << 20, maxConverted, sse.ErrTooLong.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			usage := new(memory.Usage)
			expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Choices: 1, Whole: true, Memory: memory.NewAccount(usage, test.maximum)}
			body := whole(test.size)
			got := pass(t, "application/json", strings.NewReader(body), expect, newClient())
			if got.Held != test.held || got.Sent != "" || test.held == "" && got.Body != body {
				t.Errorf("held %q, sent %q, %d bytes; want %q", got.Held, got.Sent, len(got.Body), test.held)
			}
			if usage.Bytes() != 0 {
				t.Errorf("%d bytes are still reserved", usage.Bytes())
			}
		})
	}
}

// When the memory is used up, an answer is not thrown away: it is sent as it arrives. Only one that must be held as a whole to be converted
// cannot be sent, beyond what each answer may hold in any case. Whatever happens, all memory is given back.
func TestHoldingIsBounded(t *testing.T) {
	t.Parallel()
	text := func(n int) string { return strings.Repeat("x", n) }
	whole := func(n int) string {
		return `{"choices":[{"index":0,"message":{"role":"assistant","content":"` + text(n) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	}
	const event = `data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}` + "\n\n"
	const stop = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	stream := func(n int) string { return strings.Repeat(event, n/len(event)+1) + stop + done }
	empty := func(n int) string {
		return `data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"x":"` + text(n) + `"}` + "\n\n" + event + stop + done
	}
	for _, test := range []struct {
		name, contentType, body string
		stream                  bool
		held                    string // with an account that is full; "" if it is sent
	}{
		{"small whole", "application/json", whole(100), false, ""},
		{"large whole", "application/json", whole(300_000), false, ""},
		{"huge whole", "application/json", whole(3_000_000), false, ""},
		{"stream", "text/event-stream", stream(300_000), true, ""},
		{"stream with a large event before its content", "text/event-stream", empty(300_000), true, ""},
		{"small whole to a stream", "application/json", whole(100), true, ""},
		{"large whole to a stream", "application/json", whole(300_000), true, memory.ErrUsedUp.Error()},
		{"small stream to a whole", "text/event-stream", stream(100), false, ""},
		{"large stream to a whole", "text/event-stream", stream(300_000), false, memory.ErrUsedUp.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			deliver := func(maximum int64) result {
				usage := new(memory.Usage)
				expect := Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: test.stream, Choices: 1, Memory: memory.NewAccount(usage, maximum)}
				got := pass(t, test.contentType, iotest.HalfReader(strings.NewReader(test.body)), expect, newClient())
				if usage.Bytes() != 0 {
					t.Errorf("%d bytes are still reserved", usage.Bytes())
				}
				return got
			}
			ample, full := deliver(64<<20), deliver(0)
			if ample.Held != "" || ample.Sent != "" {
				t.Fatalf("with memory: %q, %q", ample.Held, ample.Sent)
			}
			if full.Held != test.held || full.Sent != "" {
				t.Errorf("without memory: held %q, sent %q; want %q", full.Held, full.Sent, test.held)
			}
			if test.held == "" && (full.Body != ample.Body || full.Usage != ample.Usage) {
				t.Errorf("without memory the client got %d bytes and %+v, with memory %d and %+v", len(full.Body), full.Usage, len(ample.Body), ample.Usage)
			}
		})
	}
}
