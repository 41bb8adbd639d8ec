package fakellm

import "fmt"

// A messagesStyle is the Messages API of a server whose main API is another one. Unlike Anthropic's, it sends no pings.
type messagesStyle struct {
	cache    bool     // usage says what was read from the cache
	sequence bool     // the stop sequence is always there, mostly as null
	both     bool     // the usage at the end has the input, too
	error    bool     // a failure in a stream is an event; otherwise the stream just ends
	headers  []string // of a stream, instead of the kind's
}

var (
	ollamaMessages = messagesStyle{both: true, headers: []string{"Cache-Control", "no-cache"}}
	llamaMessages  = messagesStyle{cache: true, sequence: true, error: true}
	vllmMessages   = messagesStyle{sequence: true, both: true, error: true}
)

// render answers POST /v1/messages.
func (m messagesStyle) render(x *exchange) reply {
	a := &x.answer
	stop := map[string]string{"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[a.finish]
	head := fmt.Sprintf(`"id":"msg_%d","type":"message","role":"assistant","model":%s`, x.id, quote(x.params.Model))
	input := fmt.Sprintf(`"input_tokens":%d`, a.usage.input)
	if m.cache {
		input = fmt.Sprintf(`"cache_read_input_tokens":%d,"input_tokens":%d`, a.usage.cached, a.usage.input-a.usage.cached)
	}
	end := `"stop_reason":` + quote(stop)
	if a.stopSequence != "" {
		end += `,"stop_sequence":` + quote(a.stopSequence)
	} else if m.sequence {
		end += `,"stop_sequence":null`
	}
	output := fmt.Sprintf(`"output_tokens":%d`, a.usage.output)
	if !x.params.Stream {
		return x.json(fmt.Sprintf(`{%s,"content":[{"type":"text","text":%s}],%s,"usage":{%s,%s}}`, head, quote(a.text()), end, input, output))
	}
	open := ""
	if m.sequence {
		open = `"stop_reason":null,"stop_sequence":null,`
	}
	opening := events(
		"event: message_start\n"+fmt.Sprintf(`data: {"type":"message_start","message":{%s,"content":[],%s"usage":{%s,"output_tokens":0}}}`, head, open, input),
		"event: content_block_start\n"+`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
	)
	var tokens []string
	for _, t := range a.tokens {
		tokens = append(tokens, "event: content_block_delta\n"+`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":`+quote(t)+`}}`)
	}
	if m.both {
		output = input + "," + output
	}
	closing := []string{"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}`}
	if !a.noFinish {
		closing = append(closing, "event: message_delta\n"+fmt.Sprintf(`data: {"type":"message_delta","delta":{%s},"usage":{%s}}`, end, output))
	}
	if !a.noDone {
		closing = append(closing, "event: message_stop\n"+`data: {"type":"message_stop"}`)
	}
	rep := x.stream(opening, events(tokens...), events(closing...))
	if m.headers != nil {
		rep.headers = m.headers
	}
	rep.failure = nil
	if m.error {
		rep.failure = events("event: error\n" + `data: {"type":"error","error":{"type":"internal_error","message":"The engine is dead"}}`)
	}
	return rep
}
