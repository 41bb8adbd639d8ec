package openai

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// FuzzFirst compares the one pass of First over a chunk with a pass for each level of it.
func FuzzFirst(f *testing.F) {
	for _, data := range []string{
		"[DONE]", "{}", "{} x", "null", `{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}`, `{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`,
		`{"choices":[{"delta":{"content":"\ud800"}}]}`, `{"choices":[{"delta":{"content":"a"}},7,{"delta":null}],"choices":null,"error":"x"}`,
		`{"choices":[{"message":{"content":"a"},"finish_reason":"stop","usage":{"completion_tokens":2}},{"text":"a"}],"usage":{"prompt_tokens":1},"x":NaN}`,
		`{"usage":{"prompt_tokens":1},"choices":[]}`, `{"error":{},"choices":[{"delta":{"tool_calls":[1],"tool_calls":[]}}]}`, `{"choices":[{"delta":{"a":[[[[[[[[[]]]]]]]]]}}]`,
	} {
		f.Add("", []byte(data))
		f.Add("error", []byte(data))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		got, want := Chunks.First([]byte(name), data), referenceFirst([]byte(name), data)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q (-want +got):\n%s", data, cmp.Diff(want, got))
		}
	})
}

func referenceFirst(name, data []byte) Event {
	if isDone(data) {
		return Event{Done: true}
	}
	if !IsObject(data) {
		return Event{Malformed: true}
	}
	return referenceChunk(name, data)
}

func referenceChunk(name, data []byte) Event {
	var e Event
	choices := 0
	err := jsonspan.EachMember(data, func(key, value []byte) bool {
		switch string(key) {
		case "choices":
			choices = e.referenceChoices(value)
		case "error":
			if !isNoError(value) {
				e.Err = value
			}
		default:
			e.readMetered(key, value)
			e.UsageOnly = e.UsageOnly || string(key) == "usage" && e.Usage != nil
		}
		return true
	})
	if e.Err == nil && string(name) == "error" && err == nil {
		e.Err = data
	}
	e.UsageOnly = e.UsageOnly && choices == 0
	return e
}

// referenceChoices is readChoices.
func (e *Event) referenceChoices(choices []byte) (n int) {
	_ = jsonspan.EachElement(choices, func(choice []byte) bool {
		n++
		finishes, isPart, isMessage := e.Finishes, false, false
		_ = jsonspan.EachMember(choice, func(key, value []byte) bool {
			switch string(key) {
			case "delta":
				isPart = true
				e.Content = e.Content || referenceContent(value)
			case "message": // a server that cannot stream sends its message in one chunk
				isMessage = referenceContent(value)
				e.Content = e.Content || isMessage
			case "text", "reasoning_content", "reasoning": // of completions
				e.Content = e.Content || !isEmpty(value)
			case "finish_reason":
				if namesReason(value) {
					e.Reason = value
					e.Finishes++
				}
			case "usage": // Moonshot
				e.readMetered(key, value)
			}
			return true
		})
		e.Whole = e.Whole || isMessage && !isPart && e.Finishes > finishes
		return true
	})
	if e.Finishes > 0 {
		e.Finish, e.Content = true, true // an empty answer is an answer
	}
	return n
}

func referenceContent(delta []byte) (found bool) {
	_ = jsonspan.EachMember(delta, func(key, value []byte) bool { // it may be null
		switch string(key) {
		case "content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call", "audio", "images":
			found = !isEmpty(value)
		}
		return !found
	})
	return found
}
