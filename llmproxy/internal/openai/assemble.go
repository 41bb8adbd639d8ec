package openai

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Assembler joins the chunks of a stream of chat or completions into the answer that the same request would have got without a
// stream. If it does not know how to join a part, it gives up rather than lose it.
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

// eachMember visits the members of an object and reports whether it is valid and add accepted all of them.
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
			if !jsonspan.IsNull(value) {
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
				return empty(value) || t.inner.addConstant(key, value)
			})
		}
		return empty(value) || t.fields.addConstant(key, value)
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
			return nil, false // the call does not say what is called
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
	isText bool // value is the raw text of a string that grows
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

// isNull reports whether nothing but null has come so far.
func (f *field) isNull() bool { return f.value == nil || !f.isText && jsonspan.IsNull(f.value) }

// addConstant adds a member that may be repeated but must not change: nobody knows what the whole would be then.
func (f *fields) addConstant(key, value []byte) bool {
	x := f.get(key)
	if x.isNull() {
		x.value = bytes.Clone(value)
		return true
	}
	return !x.isText && (jsonspan.IsNull(value) || bytes.Equal(x.value, value))
}

// keepFirst adds a member of which the first value counts.
func (f *fields) keepFirst(key, value []byte) {
	if x := f.get(key); x.isNull() {
		x.value = bytes.Clone(value)
	}
}

// keepLast adds a member of which the last value counts.
func (f *fields) keepLast(key, value []byte) {
	if x := f.get(key); x.value == nil || !jsonspan.IsNull(value) {
		x.value = bytes.Clone(value)
	}
}

// addText appends to a string. Its parts stay escaped as they were.
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
		b = append(append(append(b, '"'), x.key...), `":`...)
		if x.isText {
			b = append(append(append(b, '"'), x.value...), '"')
		} else {
			b = append(b, x.value...)
		}
	}
	return b
}
