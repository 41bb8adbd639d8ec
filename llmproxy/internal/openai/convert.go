package openai

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Assembler joins the chunks of a stream of chat or completions into the answer that the same request would have got without
// streaming. If it does not know how to join a part, it gives up instead of losing the part.
type Assembler struct {
	top     fields
	choices []*choice
	usage   []byte
	failed  bool
}

type choice struct {
	index    int
	fields   fields
	message  fields // joined from deltas
	calls    []*toolCall
	logprobs fields // whose values are arrays
	finish   []byte
	isChat   bool // it has deltas and becomes a message
}

type toolCall struct {
	index  int
	fields fields
	kind   []byte // "function" or "custom"
	inner  fields // of the function
}

// Add adds the data of the next event.
func (a *Assembler) Add(data []byte) {
	if !a.failed && !isDone(data) {
		a.failed = !eachMember(data, a.addMember)
	}
}

// eachMember visits the members of an object. It reports whether the object is valid and add accepted every member.
func eachMember(object []byte, add func(key, value []byte) bool) bool {
	ok := true
	err := jsonspan.EachMember(object, func(key, value []byte) bool { ok = add(key, value); return ok })
	return err == nil && ok
}

// eachElement is eachMember for arrays.
func eachElement(array []byte, add func(value []byte) bool) bool {
	ok := true
	err := jsonspan.EachElement(array, func(value []byte) bool { ok = add(value); return ok })
	return err == nil && ok
}

func (a *Assembler) addMember(key, value []byte) bool {
	switch string(key) {
	case "choices":
		return jsonspan.IsNull(value) || eachElement(value, a.addChoice)
	case "usage":
		if !jsonspan.IsNull(value) {
			a.usage = bytes.Clone(value)
		}
		return true
	case "obfuscation": // padding of the stream
		return true
	case "object":
		a.top.keepFirst(key, bytes.Replace(value, []byte(".chunk"), nil, 1))
		return true
	case "id", "created", "model":
		a.top.keepFirst(key, value)
		return true
	case "system_fingerprint", "service_tier", "timings":
		a.top.keepLast(key, value)
		return true
	}
	return a.top.addConstant(key, value)
}

func (a *Assembler) addChoice(raw []byte) bool {
	index, ok := indexOf(raw)
	if !ok {
		return false
	}
	i := slices.IndexFunc(a.choices, func(c *choice) bool { return c.index == index })
	if i < 0 {
		i = len(a.choices)
		a.choices = append(a.choices, &choice{index: index})
	}
	c := a.choices[i]
	return eachMember(raw, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			return true
		case "delta":
			c.isChat = true
			return jsonspan.IsNull(value) || eachMember(value, c.addDelta)
		case "text":
			return c.fields.addText(key, value)
		case "logprobs":
			return jsonspan.IsNull(value) || eachMember(value, c.logprobs.addArray)
		case "finish_reason":
			if namesReason(value) {
				c.finish = bytes.Clone(value)
			}
			return true
		}
		return c.fields.addConstant(key, value)
	})
}

// indexOf returns the index member of a choice, a tool call or an embedding.
func indexOf(object []byte) (index int, ok bool) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool {
		if string(key) == "index" {
			n, err := strconv.Atoi(string(value))
			index, ok = n, err == nil && n >= 0
		}
		return !ok
	})
	return index, ok
}

func (c *choice) addDelta(key, value []byte) bool {
	switch string(key) {
	case "role":
		c.message.keepFirst(key, value)
		return true
	case "content", "reasoning_content", "reasoning", "refusal":
		return c.message.addText(key, value)
	case "tool_calls":
		return jsonspan.IsNull(value) || eachElement(value, c.addCall)
	}
	return c.message.addConstant(key, value)
}

func (c *choice) addCall(raw []byte) bool {
	index, ok := indexOf(raw)
	if !ok {
		return false
	}
	i := slices.IndexFunc(c.calls, func(t *toolCall) bool { return t.index == index })
	if i < 0 {
		i = len(c.calls)
		c.calls = append(c.calls, &toolCall{index: index})
	}
	t := c.calls[i]
	return eachMember(raw, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			return true
		case "function", "custom":
			t.kind = bytes.Clone(key)
			return eachMember(value, func(key, value []byte) bool {
				if string(key) == "arguments" || string(key) == "input" {
					return t.inner.addText(key, value)
				}
				return isEmpty(value) || t.inner.addConstant(key, value)
			})
		}
		return isEmpty(value) || t.fields.addConstant(key, value)
	})
}

// Answer returns the whole answer. It returns false if the assembler gave up or got nothing.
func (a *Assembler) Answer() ([]byte, bool) {
	if a.failed || len(a.choices) == 0 || len(a.top) == 0 {
		return nil, false
	}
	b := append(a.top.appendJSON([]byte{'{'}), `,"choices":[`...)
	for i, c := range a.choices {
		if slices.ContainsFunc(c.calls, func(t *toolCall) bool { return t.kind == nil }) {
			return nil, false // neither a function nor a custom tool was named
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = c.appendJSON(b)
	}
	b = append(b, ']')
	if a.usage != nil {
		b = append(append(b, `,"usage":`...), a.usage...)
	}
	return append(b, '}'), true
}

func (c *choice) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(c.index), 10)
	if c.isChat {
		b = c.appendMessage(append(b, `,"message":`...))
	}
	if len(c.fields) > 0 {
		b = c.fields.appendJSON(append(b, ','))
	}
	b = append(b, `,"logprobs":`...)
	if len(c.logprobs) > 0 {
		b = append(c.logprobs.appendJSON(append(b, '{')), '}')
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"finish_reason":`...)
	if c.finish == nil {
		return append(b, "null}"...)
	}
	return append(append(b, c.finish...), '}')
}

func (c *choice) appendMessage(b []byte) []byte {
	c.message.keepFirst([]byte("role"), []byte(`"assistant"`))
	if f := c.message.get([]byte("content")); f.value == nil || f.isText && len(f.value) == 0 && len(c.calls) > 0 {
		f.value, f.isText = []byte("null"), false
	}
	b = c.message.appendJSON(append(b, '{'))
	for i, t := range c.calls {
		if i == 0 {
			b = append(b, `,"tool_calls":[{`...)
		} else {
			b = append(b, `,{`...)
		}
		b = t.fields.appendJSON(b)
		if len(t.fields) > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), t.kind...), `":{`...)
		b = append(t.inner.appendJSON(b), `}}`...)
	}
	if len(c.calls) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// fields are the members of an object that is joined from parts, in the order in which they first came.
type fields []field

type field struct {
	key    []byte
	value  []byte
	isText bool // value is the raw text of a string, as far as it was received
}

// get returns the field of a key and adds it if it is missing.
func (f *fields) get(key []byte) *field {
	i := slices.IndexFunc(*f, func(x field) bool { return bytes.Equal(x.key, key) })
	if i < 0 {
		i = len(*f)
		*f = append(*f, field{key: bytes.Clone(key)})
	}
	return &(*f)[i]
}

// isNull reports whether the field has had no value other than null so far.
func (f *field) isNull() bool { return f.value == nil || !f.isText && jsonspan.IsNull(f.value) }

// addConstant adds a member that may be repeated but must not change, because there is no rule for joining different values.
func (f *fields) addConstant(key, value []byte) bool {
	x := f.get(key)
	if x.isNull() {
		x.value = bytes.Clone(value)
		return true
	}
	return !x.isText && (jsonspan.IsNull(value) || bytes.Equal(x.value, value))
}

// keepFirst adds a member whose first value counts.
func (f *fields) keepFirst(key, value []byte) {
	if x := f.get(key); x.isNull() {
		x.value = bytes.Clone(value)
	}
}

// keepLast adds a member whose last value counts.
func (f *fields) keepLast(key, value []byte) {
	if x := f.get(key); x.value == nil || !jsonspan.IsNull(value) {
		x.value = bytes.Clone(value)
	}
}

// addText appends to a string. The parts keep their escapes.
func (f *fields) addText(key, value []byte) bool {
	x := f.get(key)
	if jsonspan.IsNull(value) {
		if x.value == nil {
			x.value = []byte("null")
		}
		return true
	}
	raw, ok := jsonspan.RawString(value)
	if !ok || !x.isText && !x.isNull() {
		return false
	}
	if !x.isText {
		x.isText, x.value = true, []byte{}
	}
	x.value = append(x.value, raw...)
	return true
}

// addArray appends to an array.
func (f *fields) addArray(key, value []byte) bool {
	if jsonspan.IsNull(value) {
		f.keepFirst(key, value)
		return true
	}
	if len(value) < 2 || value[0] != '[' {
		return false
	}
	x := f.get(key)
	if x.isNull() || string(x.value) == "[]" {
		x.value = bytes.Clone(value)
		return true
	}
	if string(value) != "[]" {
		x.value = append(append(x.value[:len(x.value)-1], ','), value[1:]...)
	}
	return true
}

// appendJSON appends the members without braces.
func (f fields) appendJSON(b []byte) []byte {
	for i, x := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if x.isText {
			b = append(append(append(append(append(b, '"'), x.key...), `":"`...), x.value...), '"')
		} else {
			b = appendMember(b, x.key, x.value)
		}
	}
	return b
}

// Split converts a whole answer of chat or completions into the events of a stream and visits the data of each: one chunk with the
// content of each choice, one with each finish reason, and finally one with the usage. It returns false if the answer has another
// shape; events that were visited before that must be discarded.
func Split(body []byte, visit func(data []byte, usage bool)) bool {
	var choices, usage []byte
	head := []byte{'{'}
	err := jsonspan.EachMember(body, func(key, value []byte) bool {
		switch string(key) {
		case "choices":
			choices = value
		case "usage":
			usage = value
		case "object":
			value = bytes.Replace(value, []byte(`"chat.completion"`), []byte(`"chat.completion.chunk"`), 1)
			fallthrough
		default:
			head = append(appendMember(head, key, value), ',')
		}
		return true
	})
	if err != nil {
		return false
	}
	head = append(head, `"choices":[`...)
	emit := func(choice []byte, end string, usage []byte) {
		chunk := slices.Concat(head, choice, []byte(end), usage, []byte{'}'})
		for i, c := range chunk { // an event is one line; strings have no line breaks
			if c == '\n' || c == '\r' {
				chunk[i] = ' '
			}
		}
		visit(chunk, usage != nil)
	}
	for _, part := range [...]func(b []byte, choice []byte) ([]byte, bool){appendContent, appendFinish} {
		n := 0
		if !eachElement(choices, func(choice []byte) bool {
			index, ok := indexOf(choice)
			if !ok {
				index = n
			}
			n++
			b, ok := part(strconv.AppendInt([]byte(`{"index":`), int64(index), 10), choice)
			emit(b, "]", nil)
			return ok
		}) || n == 0 {
			return false
		}
	}
	if usage != nil && !jsonspan.IsNull(usage) {
		emit(nil, `],"usage":`, usage)
	}
	return true
}

// appendMember appends a member by its raw key and value.
func appendMember(b, key, value []byte) []byte {
	b = append(append(append(b, '"'), key...), `":`...)
	return append(b, value...)
}

// appendContent appends the members of a choice except its finish reason.
func appendContent(b, choice []byte) ([]byte, bool) {
	hasContent := false
	ok := eachMember(choice, func(key, value []byte) (ok bool) {
		switch string(key) {
		case "index", "finish_reason":
			return true
		case "message":
			hasContent = true
			b, ok = appendDelta(append(b, `,"delta":`...), value)
			return ok
		case "text":
			hasContent = true
		}
		b = appendMember(append(b, ','), key, value)
		return true
	})
	return append(b, `,"finish_reason":null}`...), ok && hasContent
}

// appendDelta appends a message. Its tool calls get the indexes by which clients join the parts of a stream.
func appendDelta(b, message []byte) ([]byte, bool) {
	b = append(b, '{')
	first := true
	ok := eachMember(message, func(key, value []byte) bool {
		if !first {
			b = append(b, ',')
		}
		first = false
		if string(key) != "tool_calls" || jsonspan.IsNull(value) {
			b = appendMember(b, key, value)
			return true
		}
		n := 0
		b = append(b, `"tool_calls":[`...)
		ok := eachElement(value, func(call []byte) bool {
			if n > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(append(b, `{"index":`...), int64(n), 10)
			n++
			ok := eachMember(call, func(key, value []byte) bool {
				if string(key) != "index" {
					b = appendMember(append(b, ','), key, value)
				}
				return true
			})
			b = append(b, '}')
			return ok
		})
		b = append(b, ']')
		return ok
	})
	return append(b, '}'), ok
}

// appendFinish appends the finish reason of a choice.
func appendFinish(b, choice []byte) ([]byte, bool) {
	content, reason := `,"delta":{}`, []byte("null")
	ok := eachMember(choice, func(key, value []byte) bool {
		switch string(key) {
		case "text":
			content = `,"text":""`
		case "finish_reason":
			reason = value
		}
		return true
	})
	b = append(append(b, content...), `,"finish_reason":`...)
	return append(append(b, reason...), '}'), ok
}
