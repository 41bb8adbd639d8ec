package dialect

import (
	"bytes"
	"crypto/rand"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// Unsigned is the signature of thinking that no server has signed. Clients expect one, and send it back. Anthropic's own API refuses
// such thinking, so that it must be taken out before a request goes there.
const Unsigned = "llm_proxy.unsigned"

// A MessageStream translates a stream of OpenAI's chat completions to the events of Anthropic's Messages API. Their grammar is
//
//	message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop
//
// with one block open at a time. OpenAI may mix the arguments of several tool calls, and text with them. While the arguments of the open
// call are incomplete, everything else waits for its turn.
type MessageStream struct {
	// Model is the name that the client asked for.
	Model string
	// InputTokens is an estimate for the start of the message, when the upstream has not counted yet.
	InputTokens int64
	// Names has the client's names of the tools.
	Names *ToolNames

	started  bool
	ended    bool
	failed   bool
	open     blockKind
	block    int // index of the open block, or of the next one
	calls    streamedCalls
	current  *streamedCall // whose block is open
	tools    bool          // the message has a tool call
	waiting  []waitingText // until the open call is complete
	held     int           // bytes of texts and arguments that have waited
	finish   []byte        // the last finish reason, raw
	sequence []byte        // the stop sequence, if the server says which one
	usage    tokens.Usage
	signed   []byte // the signature of the open thinking, raw
	event    []byte // reused for the data of an event
	decoded  []byte // reused for a part of a call's arguments
}

type blockKind uint8

const (
	noBlock blockKind = iota
	textBlock
	thinkingBlock
	redactedBlock
	toolBlock
)

// A waitingText is text or thinking that waits.
type waitingText struct {
	kind blockKind
	raw  []byte // quotes included
}

// Append translates the data of one event, and appends what it becomes.
func (m *MessageStream) Append(dst, data []byte) []byte {
	if m.ended {
		return dst
	}
	if string(data) == "[DONE]" {
		return m.End(dst)
	}
	var choices, id []byte
	jsonspan.Members(data, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "id":
			if !m.started {
				id, _ = jsonspan.RawString(value)
			}
		case "choices":
			choices = value
		default:
			m.readUsage(key, value)
		}
		return true
	})
	if !m.started {
		dst = m.start(dst, id)
	}
	jsonspan.Elements(choices, func(choice []byte) bool { // the last chunk has none
		dst = m.choice(dst, choice)
		return true
	})
	return dst
}

// readUsage reads a member of a chunk or a choice that may be the usage.
func (m *MessageStream) readUsage(key, value []byte) {
	if usage := openai.UsageIn(key, value); usage != nil {
		if u, ok := openai.ParseUsage(usage); ok {
			m.usage = u
		}
	}
}

// start appends message_start.
func (m *MessageStream) start(dst, id []byte) []byte {
	m.started = true
	b := append(m.event[:0], `{"type":"message_start","message":{"id":`...)
	b = appendMessageID(b, id)
	b = append(b, `,"type":"message","role":"assistant","model":`...)
	b = jsonspan.AppendString(b, m.Model)
	b = append(b, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":`...)
	b = strconv.AppendInt(b, m.InputTokens, 10)
	b = append(b, `,"output_tokens":0}}}`...)
	return m.emit(dst, "message_start", b)
}

// appendMessageID appends an ID in Anthropic's form, which contains the upstream's.
func appendMessageID(b, id []byte) []byte {
	const prefix = "msg_"
	b = append(b, '"')
	if !bytes.HasPrefix(id, []byte(prefix)) {
		b = append(b, prefix...)
	}
	if len(id) == 0 {
		b = append(b, rand.Text()...)
	}
	for _, c := range id {
		if !isIDByte(c) {
			c = '_'
		}
		b = append(b, c)
	}
	return append(b, '"')
}

func (m *MessageStream) emit(dst []byte, name string, data []byte) []byte {
	m.event = data
	return sse.AppendEvent(dst, name, data)
}

func (m *MessageStream) choice(dst, choice []byte) []byte {
	var delta, finish, sequence []byte
	first := true
	jsonspan.Members(choice, func(key, value []byte) bool { // the relay has checked that it is JSON
		switch string(key) {
		case "index":
			first = string(value) == "0"
		case "delta":
			delta = value
		case "finish_reason":
			finish = value
		case "stop_reason": // vLLM: the stop sequence, or the number of a token
			sequence = value
		default: // Moonshot counts in the choice
			m.readUsage(key, value)
		}
		return true
	})
	if !first { // Anthropic's API gives one answer
		return dst
	}
	if isText(finish) {
		m.finish = append(m.finish[:0], finish...)
	}
	if isText(sequence) {
		m.sequence = append(m.sequence[:0], sequence...)
	}
	return m.delta(dst, delta)
}

func (m *MessageStream) delta(dst, value []byte) []byte {
	d := readDelta(value)
	if d.thinkingBlocks != nil {
		dst, d.reasoning = m.blocks(dst, d.thinkingBlocks, d.reasoning)
	}
	dst = m.text(dst, thinkingBlock, d.reasoning)
	if len(d.content) > 0 && d.content[0] == '[' {
		dst = m.parts(dst, d.content)
	} else {
		dst = m.text(dst, textBlock, d.content)
	}
	dst = m.text(dst, textBlock, d.refusal)
	d.eachCall(func(call []byte) { dst = m.call(dst, call) })
	return dst
}

// parts adds the parts of a content. Mistral sends them, with thinking as a list of texts.
func (m *MessageStream) parts(dst, parts []byte) []byte {
	eachPart(parts, func(kind blockKind, raw []byte) { dst = m.text(dst, kind, raw) })
	return dst
}

// eachPart visits the texts and the thinking in a list of parts.
func eachPart(parts []byte, visit func(kind blockKind, raw []byte)) {
	jsonspan.Elements(parts, func(part []byte) bool { // the relay has checked that it is JSON
		var v [3][]byte
		object(part, []string{"text", "refusal", "thinking"}, v[:])
		for _, text := range v[:2] {
			if isText(text) {
				visit(textBlock, text)
			}
		}
		if isText(v[2]) {
			visit(thinkingBlock, v[2])
		}
		jsonspan.Elements(v[2], func(inner []byte) bool { // it may be a string
			if text := get(inner, "text"); isText(text) {
				visit(thinkingBlock, text)
			}
			return true
		})
		return true
	})
}

// text adds text or thinking, quotes included. While a call is incomplete, it waits.
func (m *MessageStream) text(dst []byte, kind blockKind, raw []byte) []byte {
	switch {
	case !isText(raw) || m.failed:
		return dst
	case m.current != nil && !m.current.json.complete():
		if m.held += len(raw); m.held > maxWaiting {
			return m.fail(dst)
		}
		m.waiting = append(m.waiting, waitingText{kind, bytes.Clone(raw)})
		return dst
	}
	dst = m.ensure(dst, kind)
	if kind == thinkingBlock {
		return m.appendDelta(dst, "thinking_delta", "thinking", raw)
	}
	return m.appendDelta(dst, "text_delta", "text", raw)
}

// blocks adds what is known of thinking that a translation from Anthropic's format sends. A stream has it after the thinking itself, of
// which only the signature is new. A whole answer that was made a stream has both in one delta; of that, blocks returns only the
// reasoning that is not in the blocks.
func (m *MessageStream) blocks(dst, blocks, reasoning []byte) (_, rest []byte) {
	jsonspan.Elements(blocks, func(block []byte) bool { // it may be null
		var v [3][]byte
		object(block, []string{"type", "thinking", "signature"}, v[:])
		switch {
		case jsonspan.EqualString(v[0], "redacted_thinking"):
			dst = m.close(m.openBlock(m.close(dst), redactedBlock, string(block)))
		case isText(v[2]):
			if m.open != thinkingBlock {
				dst = m.ensure(dst, thinkingBlock)
				if isText(v[1]) {
					dst = m.appendDelta(dst, "thinking_delta", "thinking", v[1])
					reasoning = nil
				}
			}
			m.signed = append(m.signed[:0], v[2]...)
			dst = m.close(dst)
		}
		return true
	})
	return dst, reasoning
}

// appendDelta appends a delta of the open block. The value is a JSON string, quotes included.
func (m *MessageStream) appendDelta(dst []byte, kind, member string, value []byte) []byte {
	b := append(m.event[:0], `{"type":"content_block_delta","index":`...)
	b = strconv.AppendInt(b, int64(m.block), 10)
	b = append(append(append(b, `,"delta":{"type":"`...), kind...), `","`...)
	b = append(append(append(append(b, member...), `":`...), value...), "}}"...)
	return m.emit(dst, "content_block_delta", b)
}

// ensure closes the open block if it is of another kind, and opens one of this kind.
func (m *MessageStream) ensure(dst []byte, kind blockKind) []byte {
	if m.open == kind {
		return dst
	}
	dst = m.close(dst)
	if kind == textBlock {
		return m.openBlock(dst, kind, `{"type":"text","text":""}`)
	}
	return m.openBlock(dst, kind, `{"type":"thinking","thinking":"","signature":""}`)
}

func (m *MessageStream) openBlock(dst []byte, kind blockKind, block string) []byte {
	m.open = kind
	b := append(m.event[:0], `{"type":"content_block_start","index":`...)
	b = strconv.AppendInt(b, int64(m.block), 10)
	b = append(append(append(b, `,"content_block":`...), block...), '}')
	return m.emit(dst, "content_block_start", b)
}

// close closes the open block, if there is one.
func (m *MessageStream) close(dst []byte) []byte {
	if m.open == noBlock {
		return dst
	}
	if m.open == thinkingBlock {
		signature := []byte(`"` + Unsigned + `"`)
		if len(m.signed) > 0 {
			signature = m.signed
		}
		dst = m.appendDelta(dst, "signature_delta", "signature", signature)
		m.signed = m.signed[:0]
	}
	if m.current != nil {
		m.current.closed, m.current = true, nil
	}
	b := append(m.event[:0], `{"type":"content_block_stop","index":`...)
	b = append(strconv.AppendInt(b, int64(m.block), 10), '}')
	m.open = noBlock
	m.block++
	return m.emit(dst, "content_block_stop", b)
}

// call adds a part of a tool call. One call is open at a time; the parts of others wait.
func (m *MessageStream) call(dst, raw []byte) []byte {
	index, id, name, arguments := callPart(raw)
	c := m.calls.of(index, id, name)
	fragment := rawArguments(arguments)
	switch {
	case m.failed, c.closed: // its arguments were complete
		return dst
	case c == m.current:
		dst = m.arguments(dst, fragment)
		if c.json.complete() {
			return m.release(dst)
		}
		return dst
	}
	if extra := get(raw, "extra_content"); extra != nil {
		c.extra = bytes.Clone(extra)
	}
	if m.held += len(fragment) + len(c.extra); m.held > maxWaiting {
		return m.fail(dst)
	}
	c.pending = append(c.pending, fragment...)
	if c.name == "" || m.current != nil && !m.current.json.complete() { // it cannot be opened yet
		return dst
	}
	return m.openCall(dst, c)
}

// fail ends the stream with an error, because too much waits.
func (m *MessageStream) fail(dst []byte) []byte {
	m.ended, m.failed, m.calls, m.waiting = true, true, nil, nil
	return m.emit(dst, "error", AppendError(m.event[:0], errWaiting, ""))
}

// release adds what has waited for the open call: texts, and then other calls until one is incomplete.
func (m *MessageStream) release(dst []byte) []byte {
	waiting := m.waiting
	m.waiting = nil
	for _, w := range waiting {
		dst = m.text(dst, w.kind, w.raw)
	}
	for _, c := range m.calls {
		if m.current != nil && !m.current.json.complete() {
			break
		}
		if c != m.current && !c.closed && c.name != "" {
			dst = m.openCall(dst, c)
		}
	}
	return dst
}

// openCall closes what is open and opens the block of a call, with what has come of it.
func (m *MessageStream) openCall(dst []byte, c *streamedCall) []byte {
	dst = m.close(dst)
	m.current, m.tools = c, true
	block := append([]byte(nil), `{"type":"tool_use","id":`...)
	block = jsonspan.AppendString(block, callID(c.id, c.extra))
	block = append(block, `,"name":`...)
	block = jsonspan.AppendString(block, m.Names.Original(c.name))
	block = append(block, `,"input":{}}`...)
	dst = m.openBlock(dst, toolBlock, string(block))
	fragment := c.pending
	c.pending = nil
	return m.arguments(dst, fragment)
}

// callID returns the ID of a tool call, or a new one if the server gave none.
func callID(id string, extra []byte) string {
	if id == "" {
		id = "toolu_" + rand.Text()
	}
	return encodeCall(id, extra)
}

func (m *MessageStream) arguments(dst, fragment []byte) []byte {
	if len(fragment) == 0 {
		return dst
	}
	m.decoded = jsonspan.AppendUnescaped(m.decoded[:0], fragment)
	m.current.json.add(m.decoded)
	b := append(m.event[:0], `{"type":"content_block_delta","index":`...)
	b = strconv.AppendInt(b, int64(m.block), 10)
	b = append(b, `,"delta":{"type":"input_json_delta","partial_json":"`...)
	b = append(append(b, fragment...), `"}}`...)
	return m.emit(dst, "content_block_delta", b)
}

// End appends the end of the message, once the upstream has sent its own.
func (m *MessageStream) End(dst []byte) []byte {
	if m.ended {
		return dst
	}
	if !m.started {
		dst = m.start(dst, nil)
	}
	m.ended = true
	for dst = m.close(dst); len(m.waiting) > 0 || m.calls.wait(); {
		dst = m.close(m.release(dst))
	}
	if m.block == 0 {
		dst = m.close(m.ensure(dst, textBlock)) // clients expect at least one block
	}
	b := append(m.event[:0], `{"type":"message_delta","delta":{`...)
	b = appendStop(b, m.finish, m.sequence, m.tools)
	b = append(b, `},"usage":`...)
	b = append(appendUsage(b, m.usage), '}')
	dst = m.emit(dst, "message_delta", b)
	return m.emit(dst, "message_stop", append(m.event[:0], `{"type":"message_stop"}`...))
}

// appendStop appends stop_reason and stop_sequence for a finish reason. Some servers say "stop" although the answer calls a tool.
func appendStop(b, finish, sequence []byte, calls bool) []byte {
	reason := "end_turn"
	switch str(finish) {
	case "length":
		reason = "max_tokens"
	case "content_filter":
		reason = "refusal"
	default:
		switch {
		case calls:
			reason = "tool_use"
		case len(sequence) > 0:
			reason = "stop_sequence"
		}
	}
	b = append(append(append(b, `"stop_reason":"`...), reason...), `","stop_sequence":`...)
	if reason == "stop_sequence" {
		return append(b, sequence...)
	}
	return append(b, "null"...)
}

// appendUsage appends Anthropic's usage, whose input_tokens do not include what was read from the cache or written to it.
func appendUsage(b []byte, u tokens.Usage) []byte {
	b = append(b, `{"input_tokens":`...)
	b = strconv.AppendInt(b, max(0, u.Input-u.Cached-u.CacheWrite), 10)
	b = append(b, `,"cache_creation_input_tokens":`...)
	b = strconv.AppendInt(b, u.CacheWrite, 10)
	b = append(b, `,"cache_read_input_tokens":`...)
	b = strconv.AppendInt(b, u.Cached, 10)
	b = append(b, `,"output_tokens":`...)
	return append(strconv.AppendInt(b, u.Output, 10), '}')
}

// MessageFromChat translates a whole chat completion to a message, and appends it. It returns false if the answer has no choice.
func MessageFromChat(b, answer []byte, a *About) ([]byte, bool) {
	var v [3][]byte
	object(answer, []string{"id", "choices", "usage"}, v[:])
	choice := firstChoice(v[1])
	var c [3][]byte
	object(choice, []string{"message", "finish_reason", "stop_reason"}, c[:])
	if c[0] == nil {
		return b, false
	}
	w := writer{slices.Grow(b, len(answer)+256)}
	w.raw("{")
	w.key("id")
	id, _ := jsonspan.RawString(v[0])
	w.b = appendMessageID(w.b, id)
	w.raw(`,"type":"message","role":"assistant"`)
	w.text("model", a.Model)
	w.key("content")
	w.raw("[")
	calls := w.content(c[0], a.Names)
	w.raw("],")
	if !isText(c[2]) {
		c[2] = nil
	}
	w.b = appendStop(w.b, c[1], c[2], calls)
	usage, _ := openai.ParseUsage(v[2])
	w.key("usage")
	w.b = append(appendUsage(w.b, usage), '}')
	return w.b, true
}

// content writes the blocks of a message. It reports whether tools are called.
func (w *writer) content(message []byte, names *ToolNames) (calls bool) {
	var v [7][]byte
	object(message, []string{"reasoning_content", "reasoning", "content", "refusal", "tool_calls", "thinking_blocks", "function_call"}, v[:])
	blocks := 0
	jsonspan.Elements(v[5], func(block []byte) bool { // only translated answers have them
		blocks++
		w.comma()
		w.b = append(w.b, block...)
		return true
	})
	add := func(kind blockKind, raw []byte) {
		if !isText(raw) {
			return
		}
		blocks++
		w.comma()
		if kind == thinkingBlock {
			w.raw(`{"type":"thinking"`)
			w.member("thinking", raw)
			w.raw(`,"signature":"` + Unsigned + `"}`)
			return
		}
		w.raw(`{"type":"text"`)
		w.member("text", raw)
		w.raw("}")
	}
	if blocks == 0 {
		if isText(v[0]) {
			add(thinkingBlock, v[0])
		} else {
			add(thinkingBlock, v[1])
		}
	}
	if v[2] != nil && v[2][0] == '[' {
		eachPart(v[2], add)
	} else {
		add(textBlock, v[2])
	}
	add(textBlock, v[3])
	call := func(id string, function, extra []byte) {
		var f [2][]byte
		object(function, []string{"name", "arguments"}, f[:])
		if !isText(f[0]) {
			return
		}
		calls = true
		blocks++
		w.comma()
		w.raw(`{"type":"tool_use"`)
		w.text("id", callID(id, extra))
		w.text("name", names.Original(str(f[0])))
		w.member("input", argumentsObject(f[1]))
		w.raw("}")
	}
	jsonspan.Elements(v[4], func(value []byte) bool { // without calls, there is no list
		var c [3][]byte
		object(value, []string{"id", "function", "extra_content"}, c[:])
		call(str(c[0]), c[1], c[2])
		return true
	})
	call("", v[6], nil)
	if blocks == 0 {
		w.raw(`{"type":"text","text":""}`)
	}
	return calls
}

// argumentsObject returns the object that a call's arguments are. Arguments that are no object, because the model was cut off or made a
// mistake, become the one member of an object, so that the client sees them.
func argumentsObject(arguments []byte) []byte {
	text := []byte(str(arguments))
	if len(arguments) > 0 && arguments[0] == '{' {
		text = arguments
	}
	if len(text) == 0 {
		return []byte("{}")
	}
	var o jsonspan.Object
	if o.Scan(text) == nil {
		return text
	}
	return append(jsonspan.AppendString([]byte(`{"arguments":`), string(text)), '}')
}

// AppendError appends an error as Anthropic's API sends it.
func AppendError(b []byte, e *openai.Error, requestID string) []byte {
	if e.Original != nil {
		return append(b, e.Original...)
	}
	b = append(b, `{"type":"error","error":{"type":"`...)
	b = append(append(b, errorType(e)...), `","message":`...)
	b = append(jsonspan.AppendString(b, e.Message), '}')
	if requestID != "" {
		b = jsonspan.AppendString(append(b, `,"request_id":`...), requestID)
	}
	return append(b, '}')
}

// errorType returns Anthropic's type of an error, which follows from the status.
func errorType(e *openai.Error) string {
	switch e.Status {
	case 401:
		return "authentication_error"
	case 402:
		return "billing_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 503, 529:
		return "overloaded_error"
	case 504:
		return "timeout_error"
	}
	if e.Status >= 500 || e.Status == 0 {
		return "api_error"
	}
	return "invalid_request_error"
}
