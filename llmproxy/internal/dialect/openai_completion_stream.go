package dialect

import (
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A CompletionAnswer translates an answer of OpenAI's chat to one of its older completions: the content of a message is the text of a
// choice. Reasoning stays beside it under its own name, so that nothing is lost, and a model that thinks for long shows that it lives.
// Calls of tools, which completions cannot ask for, are left out.
type CompletionAnswer struct {
	event []byte // reused
}

// Append implements Answer. What is no chunk stays as it is: [DONE], an error.
func (c *CompletionAnswer) Append(dst, data []byte) []byte {
	b, ok := appendCompletion(c.event[:0], data)
	if c.event = b; !ok {
		return sse.AppendData(dst, data)
	}
	return sse.AppendData(dst, b)
}

// Close implements Answer. The relay ends a stream of completions itself.
func (c *CompletionAnswer) Close(b []byte) []byte { return b }

// Whole implements Answer. It returns false if the answer has no list of choices.
func (c *CompletionAnswer) Whole(b, answer []byte) (translated []byte, said openai.Answer, ok bool) {
	said.ParseChecked(answer)
	translated, ok = appendCompletion(slices.Grow(b, len(answer)), answer)
	return translated, said, ok
}

// appendCompletion translates a chunk, or a whole answer. It returns false if that has no list of choices.
func appendCompletion(b, answer []byte) (_ []byte, ok bool) {
	w := writer{append(b, '{')}
	jsonspan.Members(answer, func(key, value []byte) bool { // the relay reports what is not JSON
		switch w.comma(); string(key) {
		case "object":
			w.raw(`"object":"text_completion"`)
		case "choices":
			ok = value[0] == '['
			w.raw(`"choices":[`)
			jsonspan.Elements(value, func(choice []byte) bool { // it may be null
				w.comma()
				w.textChoice(choice)
				return true
			})
			w.raw("]")
		default:
			w.rawMember(key, value)
		}
		return true
	})
	w.raw("}")
	return w.b, ok
}

// textChoice writes a choice of completions, whose text is the content of a choice of chat.
func (w *writer) textChoice(choice []byte) {
	w.raw("{")
	var message []byte
	jsonspan.Members(choice, func(key, value []byte) bool { // the relay reports what is not JSON
		switch string(key) {
		case "delta", "message":
			message = value
		case "logprobs": // their form is another one
		case "finish_reason":
			if jsonspan.EqualString(value, "tool_calls") || jsonspan.EqualString(value, "function_call") {
				value = []byte(`"stop"`)
			}
			fallthrough
		default:
			w.comma()
			w.rawMember(key, value)
		}
		return true
	})
	w.key("logprobs")
	w.raw(`null,"text":"`)
	var reasoning, name []byte
	var thoughts writer
	add := func(value []byte) {
		if isText(value) {
			w.b = append(w.b, value[1:len(value)-1]...)
		}
	}
	jsonspan.Members(message, func(key, value []byte) bool { // it may be null
		switch string(key) {
		case "content":
			add(value)
			eachPart(value, func(kind blockKind, raw []byte) { // of Mistral's models that reason
				if kind == textBlock {
					add(raw)
				} else {
					thoughts.b = append(thoughts.b, raw[1:len(raw)-1]...)
				}
			})
		case "refusal":
			add(value)
		case "reasoning_content", "reasoning":
			if isText(value) {
				name, reasoning = key, value
			}
		}
		return true
	})
	w.raw(`"`)
	switch {
	case reasoning != nil:
		w.comma()
		w.rawMember(name, reasoning)
	case thoughts.b != nil:
		w.rawText("reasoning_content", thoughts.b)
	}
	w.raw("}")
}

// rawMember adds a member as it was read, without a comma.
func (w *writer) rawMember(key, value []byte) {
	w.b = append(append(append(append(w.b, '"'), key...), `":`...), value...)
}
