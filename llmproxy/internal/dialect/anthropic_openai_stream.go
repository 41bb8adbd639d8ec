package dialect

import (
	"bytes"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A ChunkStream translates the events of Anthropic's Messages API to a stream of OpenAI's chat completions.
type ChunkStream struct {
	// Names has the client's names of the tools.
	Names *ToolNames
	// Unsigned means that the server has no signatures that Anthropic would accept, whatever it sends.
	Unsigned bool

	sequence  []byte // that ended the answer, as JSON
	id, model []byte // raw, without quotes
	created   int64
	usage     messageUsage
	blocks    []streamedBlock
	calls     int
	finish    string
	chunk     []byte // reused
	started   bool
	ended     bool
}

// A streamedBlock is a content block of the stream.
type streamedBlock struct {
	index int
	kind  string
	call  int    // index of the tool call
	input []byte // the arguments of the tool call, unless they come in parts; nil once they have come
	// text and signature of thinking, raw
	text, signature []byte
}

// A messageUsage is the usage of a message, each number of which may come at its start and be corrected at its end.
type messageUsage struct{ input, output, written, read, thinking int64 }

func (u *messageUsage) add(value []byte) {
	jsonspan.Members(value, func(key, value []byte) bool { // an absent usage has no members
		n, err := strconv.ParseInt(string(value), 10, 64)
		switch string(key) {
		case "output_tokens_details":
			u.thinking, _ = strconv.ParseInt(string(get(value, "thinking_tokens")), 10, 64)
		case "input_tokens":
			if err == nil && n > 0 {
				u.input = n
			}
		case "output_tokens":
			if err == nil {
				u.output = max(u.output, n)
			}
		case "cache_creation_input_tokens":
			if err == nil && n > 0 {
				u.written = n
			}
		case "cache_read_input_tokens":
			if err == nil && n > 0 {
				u.read = n
			}
		}
		return true
	})
}

// appendJSON appends OpenAI's usage, whose prompt_tokens include what was read from the cache and written to it.
func (u *messageUsage) appendJSON(b []byte) []byte {
	prompt := u.input + u.read + u.written
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), prompt, 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), u.output, 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), prompt+u.output, 10)
	b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), u.read, 10)
	b = strconv.AppendInt(append(b, `,"cache_write_tokens":`...), u.written, 10)
	b = strconv.AppendInt(append(b, `},"completion_tokens_details":{"reasoning_tokens":`...), u.thinking, 10)
	return append(b, "}}"...)
}

// Append translates one event, and appends what it becomes.
func (c *ChunkStream) Append(dst, name, data []byte) []byte {
	if c.ended || len(data) == 0 {
		return dst
	}
	var index int
	var kind, message, block, delta, usage, failure []byte
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // what an upstream sends is validated here; the relay reports what it becomes
		switch string(key) {
		case "type":
			kind, _ = jsonspan.RawString(value)
		case "index":
			index, _ = strconv.Atoi(string(value))
		case "message":
			message = value
		case "content_block":
			block = value
		case "delta":
			delta = value
		case "usage":
			usage = value
		case "error":
			failure = value
		}
		return true
	})
	if len(kind) == 0 {
		kind = name
	}
	switch string(kind) {
	case "content_block_start", "content_block_delta", "message_stop":
		if !c.started { // the role comes first
			dst = c.start(dst, nil)
		}
	}
	switch string(kind) {
	case "message_start":
		if !c.started {
			return c.start(dst, message)
		}
	case "content_block_start":
		return c.openBlock(dst, index, block)
	case "content_block_delta":
		return c.delta(dst, index, delta)
	case "content_block_stop":
		return c.closeBlock(dst, index)
	case "message_delta":
		c.usage.add(usage)
		if reason := get(delta, "stop_reason"); reason != nil {
			c.finish = finishReason(str(reason))
		}
		if sequence := get(delta, "stop_sequence"); isText(sequence) {
			c.sequence = bytes.Clone(sequence)
		}
	case "message_stop":
		return c.end(dst)
	case "ping":
		return append(dst, ": ping\n\n"...)
	case "error":
		c.ended = true
		if failure == nil {
			failure = []byte(`{"type":"api_error","message":"The upstream reported an error without saying which."}`)
		}
		return sse.AppendData(dst, append(append([]byte(`{"error":`), failure...), '}'))
	}
	return dst
}

func (c *ChunkStream) start(dst, message []byte) []byte {
	c.started = true
	var v [3][]byte
	object(message, []string{"id", "model", "usage"}, v[:])
	raw, _ := jsonspan.RawString(v[0])
	c.id = bytes.Clone(raw)
	raw, _ = jsonspan.RawString(v[1])
	c.model = bytes.Clone(raw)
	c.created = time.Now().Unix()
	c.usage.add(v[2])
	return c.emit(dst, `{"role":"assistant","content":""}`, "")
}

// emit appends a chunk with a delta, whose parts are joined.
func (c *ChunkStream) emit(dst []byte, delta, finish string) []byte {
	b := c.begin()
	b = append(append(append(b, `,"choices":[{"index":0,"delta":`...), delta...), `,"finish_reason":`...)
	if finish == "" {
		b = append(b, "null}]}"...)
	} else {
		b = append(append(append(b, '"'), finish...), '"')
		b = append(appendSequence(b, c.sequence), "}]}"...)
	}
	c.chunk = b
	return sse.AppendData(dst, b)
}

// appendSequence appends the stop sequence that ended an answer to a choice, as vLLM does. OpenAI's API does not say which one it was.
func appendSequence(b, sequence []byte) []byte {
	if !isText(sequence) {
		return b
	}
	return append(append(b, `,"stop_reason":`...), sequence...)
}

// begin begins a chunk up to its choices.
func (c *ChunkStream) begin() []byte {
	b := append(append(append(c.chunk[:0], `{"id":"`...), c.id...), `","object":"chat.completion.chunk","created":`...)
	b = strconv.AppendInt(b, c.created, 10)
	return append(append(append(b, `,"model":"`...), c.model...), '"')
}

// emitValue appends a chunk with a delta of one member.
func (c *ChunkStream) emitValue(dst []byte, member string, value []byte) []byte {
	b := append(append(append(c.begin(), `,"choices":[{"index":0,"delta":{"`...), member...), `":`...)
	b = append(append(b, value...), `},"finish_reason":null}]}`...)
	c.chunk = b
	return sse.AppendData(dst, b)
}

func (c *ChunkStream) find(index int) *streamedBlock {
	for i := range c.blocks {
		if c.blocks[i].index == index {
			return &c.blocks[i]
		}
	}
	return nil
}

func (c *ChunkStream) openBlock(dst []byte, index int, block []byte) []byte {
	var v [6][]byte
	object(block, []string{"type", "text", "thinking", "id", "name", "input"}, v[:])
	b := streamedBlock{index: index, kind: str(v[0])}
	switch b.kind {
	case "text":
		if isText(v[1]) {
			dst = c.emitValue(dst, "content", v[1])
		}
	case "thinking":
		if isText(v[2]) {
			b.text = append(b.text, v[2][1:len(v[2])-1]...)
			dst = c.emitValue(dst, "reasoning_content", v[2])
		}
	case "redacted_thinking":
		dst = c.emitValue(dst, "thinking_blocks", append(append([]byte{'['}, block...), ']'))
	case "tool_use":
		b.call, b.input = c.calls, []byte("{}")
		if v[5] != nil {
			b.input = bytes.Clone(v[5])
		}
		c.calls++
		w := writer{strconv.AppendInt([]byte(`[{"index":`), int64(b.call), 10)}
		w.text("id", callID(str(v[3]), nil))
		w.raw(`,"type":"function","function":{`)
		w.text("name", c.Names.Original(str(v[4])))
		w.raw(`,"arguments":""}}]`)
		dst = c.emitValue(dst, "tool_calls", w.b)
	}
	c.blocks = append(c.blocks, b)
	return dst
}

func (c *ChunkStream) delta(dst []byte, index int, delta []byte) []byte {
	var kind, text []byte
	jsonspan.Members(delta, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "type":
			kind, _ = jsonspan.RawString(value)
		case "text", "thinking", "partial_json", "signature":
			text = value
		}
		return true
	})
	raw, ok := jsonspan.RawString(text)
	if !ok {
		return dst
	}
	block := c.find(index)
	switch string(kind) {
	case "text_delta":
		return c.emitValue(dst, "content", text)
	case "thinking_delta":
		if block != nil {
			block.text = append(block.text, raw...)
		}
		return c.emitValue(dst, "reasoning_content", text)
	case "signature_delta":
		if block != nil {
			block.signature = append(block.signature, raw...)
		}
	case "input_json_delta":
		if block == nil || block.kind != "tool_use" || len(raw) == 0 { // Anthropic runs its own tools itself
			return dst
		}
		block.input = nil
		b := strconv.AppendInt(append(c.begin(), `,"choices":[{"index":0,"delta":{"tool_calls":[{"index":`...), int64(block.call), 10)
		b = append(append(append(b, `,"function":{"arguments":`...), text...), `}}]},"finish_reason":null}]}`...)
		c.chunk = b
		return sse.AppendData(dst, b)
	}
	return dst
}

// closeBlock ends a block. The arguments of a call may have come with its start, as {} if the tool takes none. Thinking follows once more as a whole, with its
// signature, so that a client can send it back with the results of tools.
func (c *ChunkStream) closeBlock(dst []byte, index int) []byte {
	block := c.find(index)
	if block == nil {
		return dst
	}
	switch {
	case block.kind == "tool_use" && block.input != nil:
		w := writer{strconv.AppendInt([]byte(`[{"index":`), int64(block.call), 10)}
		w.raw(`,"function":{`)
		w.text("arguments", string(block.input))
		w.raw("}}]")
		dst = c.emitValue(dst, "tool_calls", w.b)
	case block.kind == "thinking" && len(block.signature) > 0 && !c.Unsigned:
		w := writer{[]byte(`[{"type":"thinking"`)}
		w.rawText("thinking", block.text)
		w.rawText("signature", block.signature)
		w.raw("}]")
		dst = c.emitValue(dst, "thinking_blocks", w.b)
	}
	block.kind = "" // it stops once
	return dst
}

func (c *ChunkStream) end(dst []byte) []byte {
	c.ended = true
	finish := c.finish
	if finish == "" || finish == "stop" && c.calls > 0 {
		finish = "stop"
		if c.calls > 0 {
			finish = "tool_calls"
		}
	}
	dst = c.emit(dst, "{}", finish)
	b := append(append(c.begin(), `,"choices":[],"usage":`...), c.usage.appendJSON(nil)...)
	c.chunk = append(b, '}')
	dst = sse.AppendData(dst, c.chunk)
	return append(dst, "data: [DONE]\n\n"...)
}

// finishReason returns OpenAI's finish_reason for Anthropic's stop_reason.
func finishReason(stop string) string {
	switch stop {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	}
	return "stop"
}

// ChatFromMessage translates a whole message to a chat completion. Signed means that Anthropic would accept the signatures of its thinking.
// It returns false if the answer is not a message.
func ChatFromMessage(answer []byte, names *ToolNames, signed bool) ([]byte, bool) {
	var v [6][]byte
	object(answer, []string{"id", "model", "content", "stop_reason", "usage", "stop_sequence"}, v[:])
	if v[2] == nil || v[2][0] != '[' {
		return nil, false
	}
	var usage messageUsage
	usage.add(v[4])
	var text, thinking, blocks, calls writer
	jsonspan.Elements(v[2], func(block []byte) bool { // it is a list
		var b [7][]byte
		object(block, []string{"type", "text", "thinking", "signature", "id", "name", "input"}, b[:])
		switch str(b[0]) {
		case "text":
			if raw, ok := jsonspan.RawString(b[1]); ok {
				text.b = append(text.b, raw...)
			}
		case "thinking":
			if raw, ok := jsonspan.RawString(b[2]); ok {
				thinking.b = append(thinking.b, raw...)
			}
			if signed && isText(b[3]) {
				blocks.comma()
				blocks.b = append(blocks.b, block...)
			}
		case "redacted_thinking":
			blocks.comma()
			blocks.b = append(blocks.b, block...)
		case "tool_use":
			if len(calls.b) > 0 {
				calls.raw(",")
			}
			calls.raw("{")
			calls.text("id", callID(str(b[4]), nil))
			calls.raw(`,"type":"function","function":{`)
			calls.text("name", names.Original(str(b[5])))
			arguments := b[6]
			if arguments == nil {
				arguments = []byte("{}")
			}
			calls.text("arguments", string(arguments))
			calls.raw("}}")
		}
		return true
	})
	w := writer{make([]byte, 0, len(answer)+256)}
	w.raw("{")
	w.text("id", str(v[0]))
	w.raw(`,"object":"chat.completion"`)
	w.number("created", time.Now().Unix())
	w.text("model", str(v[1]))
	w.raw(`,"choices":[{"index":0,"message":{"role":"assistant"`)
	if len(text.b) > 0 || len(calls.b) == 0 {
		w.rawText("content", text.b)
	} else {
		w.raw(`,"content":null`)
	}
	if len(thinking.b) > 0 {
		w.rawText("reasoning_content", thinking.b)
	}
	if len(blocks.b) > 0 {
		w.key("thinking_blocks")
		w.b = append(append(append(w.b, '['), blocks.b...), ']')
	}
	if len(calls.b) > 0 {
		w.key("tool_calls")
		w.b = append(append(append(w.b, '['), calls.b...), ']')
	}
	finish := finishReason(str(v[3]))
	if finish == "stop" && len(calls.b) > 0 {
		finish = "tool_calls"
	}
	w.raw(`},"logprobs":null,"finish_reason":"` + finish + `"`)
	w.b = append(appendSequence(w.b, v[5]), `}],"usage":`...)
	w.b = append(usage.appendJSON(w.b), '}')
	return w.b, true
}
