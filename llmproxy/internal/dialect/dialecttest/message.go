// Package dialecttest checks streams as the strictest clients read them, for the tests of all packages that make such streams. It
// imports nothing of the translations that it checks.
package dialecttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Message is what a client of Anthropic's API has at the end of a stream.
type Message struct {
	ID, Model    string
	Content      []map[string]any // the input of a tool_use is a string if it is not JSON
	StopReason   string
	StopSequence any
	Usage        map[string]any
	Err          map[string]any // of a stream that ends with an error; then it has no stop reason
}

// ReadMessage reads a stream of Anthropic's API. It fails the test if the stream breaks the grammar of its events.
func ReadMessage(t testing.TB, stream []byte) Message {
	t.Helper()
	r := messageReader{open: -1}
	for rest := stream; len(rest) > 0; {
		var e sse.Event
		e, rest = sse.Cut(rest)
		if e.OnlyComments {
			continue
		}
		if err := r.add(&e); err != nil {
			t.Fatalf("%v: %s\nin the stream\n%s", err, e.Raw, stream)
		}
	}
	if !r.ended {
		t.Fatalf("the stream does not end:\n%s", stream)
	}
	return r.Message
}

type messageReader struct {
	Message
	started, delta, ended bool
	open                  int // index of the open block, or -1
	signed                bool
	partial               strings.Builder
}

// A messageEvent has the members of every event. Pointers tell whether a member is there.
type messageEvent struct {
	Type         string
	Index        *int
	ContentBlock map[string]any `json:"content_block"`
	Message      *struct {
		ID, Type, Role, Model string
		Content               []any
		StopReason            any `json:"stop_reason"`
		Usage                 map[string]any
	}
	Delta *struct {
		Type                      string
		Text, Thinking, Signature *string
		PartialJSON               *string `json:"partial_json"`
		StopReason                *string `json:"stop_reason"`
		StopSequence              any     `json:"stop_sequence"`
	}
	Usage map[string]any
	Error map[string]any
}

func (r *messageReader) add(e *sse.Event) error {
	var event messageEvent
	if err := json.Unmarshal(e.Data, &event); err != nil {
		return err
	}
	switch {
	case string(e.Name) != event.Type:
		return fmt.Errorf("event %q has the type %q", e.Name, event.Type)
	case r.ended:
		return errors.New("event after the end")
	case event.Type == "ping":
		return nil
	case event.Type == "error":
		r.ended, r.Err = true, event.Error
		if kind, _ := event.Error["type"].(string); kind == "" {
			return errors.New("error without a type")
		}
		return nil
	case !r.started && event.Type != "message_start":
		return errors.New("event before message_start")
	case r.delta && event.Type != "message_stop":
		return errors.New("event between message_delta and message_stop")
	}
	switch event.Type {
	case "message_start":
		return r.start(&event)
	case "content_block_start":
		return r.startBlock(&event)
	case "content_block_delta":
		return r.addDelta(&event)
	case "content_block_stop":
		return r.stopBlock(&event)
	case "message_delta":
		if r.open >= 0 || event.Delta == nil || event.Delta.StopReason == nil || *event.Delta.StopReason == "" {
			return errors.New("message_delta while a block is open, or without a stop_reason")
		}
		r.delta, r.StopReason, r.StopSequence, r.Usage = true, *event.Delta.StopReason, event.Delta.StopSequence, event.Usage
		if (r.StopReason == "stop_sequence") != (r.StopSequence != nil) {
			return errors.New("stop_reason and stop_sequence do not fit")
		}
		return checkUsage(event.Usage)
	case "message_stop":
		if !r.delta || len(r.Content) == 0 {
			return errors.New("message_stop before message_delta, or of a message without content")
		}
		r.ended = true
		return nil
	}
	return errors.New("unknown event")
}

func checkUsage(usage map[string]any) error {
	for _, name := range []string{"input_tokens", "output_tokens"} {
		if n, ok := usage[name].(float64); !ok || n < 0 {
			return fmt.Errorf("usage without %s", name)
		}
	}
	return nil
}

func (r *messageReader) start(event *messageEvent) error {
	m := event.Message
	if r.started || m == nil || m.ID == "" || m.Type != "message" || m.Role != "assistant" || m.Content == nil || len(m.Content) > 0 || m.StopReason != nil {
		return errors.New("second or incomplete message_start")
	}
	r.started, r.ID, r.Model = true, m.ID, m.Model
	return checkUsage(m.Usage)
}

func (r *messageReader) startBlock(event *messageEvent) error {
	if r.open >= 0 || event.Index == nil || *event.Index != len(r.Content) {
		return errors.New("block starts inside another one, or has not the next index")
	}
	r.open, r.signed = *event.Index, false
	r.partial.Reset()
	r.Content = append(r.Content, event.ContentBlock)
	switch b := event.ContentBlock; b["type"] {
	case "text":
		return wantEmpty(b, "text")
	case "thinking":
		return wantEmpty(b, "thinking")
	case "redacted_thinking":
		return nil
	case "tool_use":
		id, _ := b["id"].(string)
		name, _ := b["name"].(string)
		if input, ok := b["input"].(map[string]any); !ok || len(input) > 0 || id == "" || name == "" || strings.Trim(id, idBytes) != "" {
			return errors.New("tool_use without a valid ID, a name or an empty input")
		}
		return nil
	}
	return errors.New("unknown type of block")
}

const idBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

func wantEmpty(block map[string]any, member string) error {
	if text, ok := block[member].(string); !ok || text != "" {
		return fmt.Errorf("%s is missing or not empty", member)
	}
	return nil
}

func (r *messageReader) addDelta(event *messageEvent) error {
	if event.Index == nil || r.open < 0 || *event.Index != r.open || event.Delta == nil {
		return fmt.Errorf("delta of a block that is not open; %d is", r.open)
	}
	block, d := r.Content[r.open], event.Delta
	add := func(kind, member string, text *string) error {
		if block["type"] != kind || text == nil {
			return fmt.Errorf("%s in a block of type %s, or without its text", d.Type, block["type"])
		}
		if kind == "tool_use" {
			r.partial.WriteString(*text)
			return nil
		}
		before, _ := block[member].(string)
		block[member] = before + *text
		return nil
	}
	switch {
	case d.Type == "text_delta":
		return add("text", "text", d.Text)
	case r.signed:
		return errors.New("delta after the signature")
	case d.Type == "thinking_delta":
		return add("thinking", "thinking", d.Thinking)
	case d.Type == "signature_delta":
		r.signed = true
		return add("thinking", "signature", d.Signature)
	case d.Type == "input_json_delta":
		return add("tool_use", "", d.PartialJSON)
	}
	return errors.New("unknown type of delta")
}

func (r *messageReader) stopBlock(event *messageEvent) error {
	if event.Index == nil || r.open < 0 || *event.Index != r.open {
		return fmt.Errorf("stop of a block that is not open; %d is", r.open)
	}
	block := r.Content[r.open]
	switch {
	case block["type"] == "thinking" && !r.signed:
		return errors.New("thinking without a signature")
	case block["type"] == "tool_use" && r.partial.Len() > 0:
		var input any
		if json.Unmarshal([]byte(r.partial.String()), &input) != nil {
			input = r.partial.String()
		}
		block["input"] = input
	}
	r.open = -1
	return nil
}
