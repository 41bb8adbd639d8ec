package dialecttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Chat is what a client of OpenAI's chat completions has at the end of a stream with one choice.
type Chat struct {
	ID, Model                   string
	Content, Reasoning, Refusal string
	Blocks                      []map[string]any // of thinking
	Calls                       []Call
	Finish                      string
	Usage                       map[string]any
	Err                         map[string]any // of a stream that ends with an error; then it has no finish reason
}

// A Call is a tool call.
type Call struct{ ID, Name, Arguments string }

// ReadChat reads a stream of OpenAI's chat completions. It fails the test if the stream breaks the rules of its chunks.
func ReadChat(t testing.TB, stream []byte) Chat {
	t.Helper()
	var r chatReader
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
	return r.Chat
}

type chatReader struct {
	Chat
	started, ended bool
	created        int64
}

type chunk struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Index  *int
		Delta  map[string]json.RawMessage
		Finish *string `json:"finish_reason"`
	}
	Usage map[string]any
	Error map[string]any
}

func (r *chatReader) add(e *sse.Event) error {
	var c chunk
	switch {
	case r.ended:
		return errors.New("event after the end")
	case len(e.Name) > 0:
		return errors.New("event with a name")
	case string(e.Data) == "[DONE]":
		if r.Finish == "" {
			return errors.New("[DONE] without a finish_reason")
		}
		r.ended = true
		return nil
	}
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return err
	}
	if c.Error != nil {
		r.ended, r.Err, r.Finish = true, c.Error, ""
		return nil
	}
	switch {
	case c.Object != "chat.completion.chunk" || c.Choices == nil || r.Usage != nil:
		return errors.New("not a chunk, or one after the usage")
	case !r.started:
		r.ID, r.Model, r.created = c.ID, c.Model, c.Created
	case c.ID != r.ID || c.Model != r.Model || c.Created != r.created:
		return errors.New("chunk of another answer")
	}
	if len(c.Choices) == 0 {
		if r.Usage = c.Usage; r.Finish == "" || c.Usage == nil {
			return errors.New("usage before the finish_reason, or a chunk with nothing")
		}
		return nil
	}
	choice := c.Choices[0]
	switch {
	case len(c.Choices) > 1 || choice.Index == nil || *choice.Index != 0 || choice.Delta == nil || c.Usage != nil:
		return errors.New("not one choice with a delta")
	case r.Finish != "":
		return errors.New("delta after the finish_reason")
	case choice.Finish != nil && !strings.Contains(" stop length tool_calls content_filter ", " "+*choice.Finish+" "):
		return errors.New("unknown finish_reason")
	case choice.Finish != nil:
		r.Finish = *choice.Finish
	}
	if role, ok := choice.Delta["role"]; ok == r.started || ok && string(role) != `"assistant"` {
		return errors.New("the first chunk, and no other, has the role")
	}
	r.started = true
	return r.addDelta(choice.Delta)
}

func (r *chatReader) addDelta(delta map[string]json.RawMessage) error {
	for name, value := range delta {
		var text string
		switch name {
		case "role":
		case "content", "reasoning_content", "refusal":
			if err := json.Unmarshal(value, &text); err != nil {
				return err
			}
			*map[string]*string{"content": &r.Content, "reasoning_content": &r.Reasoning, "refusal": &r.Refusal}[name] += text
		case "thinking_blocks":
			var blocks []map[string]any
			if err := json.Unmarshal(value, &blocks); err != nil {
				return err
			}
			r.Blocks = append(r.Blocks, blocks...)
		case "tool_calls":
			var calls []callPart
			if err := json.Unmarshal(value, &calls); err != nil {
				return err
			}
			for _, call := range calls {
				if err := r.addCall(call); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("unknown member %s", name)
		}
	}
	return nil
}

type callPart struct {
	Index    *int
	ID, Type *string
	Function *struct{ Name, Arguments *string }
}

func (r *chatReader) addCall(p callPart) error {
	switch {
	case p.Index == nil || *p.Index < 0 || *p.Index > len(r.Calls) || p.Function == nil || p.Function.Arguments == nil:
		return errors.New("part of a call without the next index or arguments")
	case *p.Index == len(r.Calls):
		if p.ID == nil || *p.ID == "" || p.Type == nil || *p.Type != "function" || p.Function.Name == nil {
			return errors.New("the first part of a call without its ID, type or name")
		}
		r.Calls = append(r.Calls, Call{*p.ID, *p.Function.Name, *p.Function.Arguments})
		return nil
	case p.ID != nil || p.Type != nil || p.Function.Name != nil:
		return errors.New("a later part of a call with its ID, type or name")
	}
	r.Calls[*p.Index].Arguments += *p.Function.Arguments
	return nil
}
