package anthropic

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	usage := `{"input_tokens":3,"output_tokens":1}`
	for _, tt := range []struct {
		name, event, data string
		first             openai.Event
		text              int
	}{
		{"start", "message_start", `{"type":"message_start","message":{"id":"m","usage":` + usage + `}}`, openai.Event{Usage: []byte(usage)}, 0},
		{"a block opens", "", `{"type":"content_block_start","content_block":{"type":"text","text":""}}`, openai.Event{Opens: true}, 0},
		{"a tool is called", "", `{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}`, openai.Event{Content: true}, 0},
		{"redacted thinking", "", `{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}`, openai.Event{Content: true}, 0},
		{"text", "", `{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}`, openai.Event{Content: true}, 2},
		{"no text", "", `{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}`, openai.Event{}, 0},
		{"thinking", "", `{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"Hmm"}}`, openai.Event{Content: true}, 3},
		{"arguments", "", `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\"a\""}}`, openai.Event{Content: true}, 4},
		{"a signature", "", `{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"x"}}`, openai.Event{}, 0},
		{"a block ends", "", `{"type":"content_block_stop","index":0}`, openai.Event{}, 0},
		{"the reason", "", `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":` + usage + `}`, openai.Event{Content: true, Finish: true, Finishes: 1, Usage: []byte(usage)}, 0},
		{"no reason yet", "", `{"type":"message_delta","delta":{"stop_reason":null}}`, openai.Event{}, 0},
		{"the end", "message_stop", `{"type":"message_stop"}`, openai.Event{Done: true}, 0},
		{"the name alone says what it is", "message_stop", `{}`, openai.Event{Done: true}, 0},
		{"ping", "ping", `{"type":"ping"}`, openai.Event{}, 0},
		{"error", "error", `{"type":"error","error":{"type":"api_error"}}`, openai.Event{Err: []byte(`{"type":"api_error"}`)}, 0},
		{"flat error", "error", `{"type":"error","message":"m"}`, openai.Event{Err: []byte(`{"type":"error","message":"m"}`)}, 0},
		{"not JSON", "", `x`, openai.Event{Malformed: true}, 0},
		{"cut", "", `{"type":"message_stop"`, openai.Event{Malformed: true}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Events{}.First([]byte(tt.event), []byte(tt.data))
			if diff := cmp.Diff(tt.first, got); diff != "" {
				t.Errorf("First (-want +got):\n%s", diff)
			}
			next := tt.first
			next.Content, next.Opens, next.Text = next.Finish, false, jsonspan.TextCount{Chars: tt.text, Bytes: tt.text}
			if diff := cmp.Diff(next, Events{}.Next([]byte(tt.event), []byte(tt.data))); diff != "" {
				t.Errorf("Next (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzEvents checks that no event, however broken, makes the reader panic or takes text from outside of the data.
func FuzzEvents(f *testing.F) {
	f.Add("message_start", `{"type":"message_start","message":{"usage":{"input_tokens":1}}}`)
	f.Add("", `{"type":"content_block_delta","delta":{"text":"a\"}}`)
	f.Add("error", `{"error":null}`)
	f.Fuzz(func(t *testing.T, name, data string) {
		first, next := Events{}.First([]byte(name), []byte(data)), Events{}.Next([]byte(name), []byte(data))
		if first.Malformed != next.Malformed || first.Done != next.Done || first.Finishes != next.Finishes {
			t.Errorf("first %+v, next %+v", first, next)
		}
		if next.Text.Bytes > len(data) {
			t.Errorf("%d bytes of text in %d bytes", next.Text.Bytes, len(data))
		}
	})
}
