package dialect

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"

// A delta is what a chunk of chat completions says, or a whole message. Values are JSON; those of absent members are nil.
type delta struct {
	content, refusal, reasoning                   []byte // the reasoning is a string that is not empty
	thinkingBlocks, reasoningDetails, annotations []byte
	calls, call                                   []byte // see eachCall
}

func readDelta(value []byte) (d delta) {
	jsonspan.Members(value, func(key, value []byte) bool { // it may be null
		switch string(key) {
		case "reasoning_content", "reasoning":
			if isText(value) {
				d.reasoning = value
			}
		case "content":
			d.content = value
		case "refusal":
			d.refusal = value
		case "tool_calls":
			d.calls = value
		case "function_call":
			d.call = value
		case "thinking_blocks":
			d.thinkingBlocks = value
		case "reasoning_details":
			d.reasoningDetails = value
		case "annotations":
			d.annotations = value
		}
		return true
	})
	return d
}

// eachCall visits the tool calls, and the function call that preceded them in OpenAI's API.
func (d *delta) eachCall(visit func(call []byte)) {
	jsonspan.Elements(d.calls, func(call []byte) bool { // it may be null
		visit(call)
		return true
	})
	if len(d.call) > 0 && d.call[0] == '{' {
		visit(append(append([]byte(`{"index":0,"function":`), d.call...), '}'))
	}
}
