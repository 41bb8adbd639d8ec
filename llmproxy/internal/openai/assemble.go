package openai

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An Assembly puts the chunks of a stream of chat or completions together to the answer that the same request would have got
// without a stream. What it does not know how to put together it refuses, rather than lose a part.
type Assembly struct {
	top     fields
	choices []*choiceParts
	usage   []byte
	refused bool
}

type choiceParts struct {
	index   int
	members fields
	delta   fields
	calls   []*callParts
	list    fields // the arrays of its logprobs
	finish  []byte
	chat    bool // it is told in deltas, and becomes a message
}

type callParts struct {
	index   int
	members fields
	inner   fields // of function or custom
	kind    []byte
}

// Add takes the data of the next event.
func (a *Assembly) Add(data []byte) {
	if a.refused || done(data) {
		return
	}
	err := jsonspan.EachMember(data, func(key, value []byte) bool { a.ok(a.member(key, value)); return !a.refused })
	a.ok(err == nil)
}

func (a *Assembly) ok(ok bool) { a.refused = a.refused || !ok }

func (a *Assembly) member(key, value []byte) bool {
	switch string(key) {
	case "choices":
		if jsonspan.IsNull(value) {
			return true
		}
		return jsonspan.EachElement(value, func(choice []byte) bool { a.ok(a.choice(choice)); return !a.refused }) == nil
	case "usage":
		if !jsonspan.IsNull(value) {
			a.usage = bytes.Clone(value)
		}
		return true
	case "obfuscation": // padding of the stream
		return true
	case "object":
		return a.top.first(key, bytes.Replace(value, []byte(".chunk"), nil, 1))
	case "id", "created", "model":
		return a.top.first(key, value)
	case "system_fingerprint", "service_tier", "timings":
		return a.top.last(key, value)
	}
	return a.top.same(key, value)
}

func (a *Assembly) choice(choice []byte) bool {
	c, ok := a.choiceAt(choice), true
	if c == nil {
		return false
	}
	err := jsonspan.EachMember(choice, func(key, value []byte) bool {
		switch string(key) {
		case "index":
		case "delta":
			c.chat = true
			ok = jsonspan.IsNull(value) || jsonspan.EachMember(value, func(key, value []byte) bool { ok = a.delta(c, key, value); return ok }) == nil && ok
		case "text":
			ok = c.members.grow(key, value)
		case "logprobs":
			ok = jsonspan.IsNull(value) || jsonspan.EachMember(value, func(key, value []byte) bool { ok = lengthen(&c.list, key, value); return ok }) == nil && ok
		case "finish_reason":
			if !jsonspan.IsNull(value) {
				c.finish = bytes.Clone(value)
			}
		default:
			ok = c.members.same(key, value)
		}
		return ok
	})
	return err == nil && ok
}

// choiceAt finds the choice by its index, or begins it.
func (a *Assembly) choiceAt(choice []byte) *choiceParts {
	index, ok := indexOf(choice)
	if !ok {
		return nil
	}
	for _, c := range a.choices {
		if c.index == index {
			return c
		}
	}
	c := &choiceParts{index: index}
	a.choices = append(a.choices, c)
	return c
}

func indexOf(object []byte) (index int, ok bool) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // without one it has none
		if string(key) == "index" {
			n, err := strconv.Atoi(string(value))
			index, ok = n, err == nil && n >= 0
		}
		return !ok
	})
	return index, ok
}

func (a *Assembly) delta(c *choiceParts, key, value []byte) bool {
	switch string(key) {
	case "role":
		return c.delta.first(key, value)
	case "content", "reasoning_content", "reasoning", "refusal":
		return c.delta.grow(key, value)
	case "tool_calls":
		ok := true
		return jsonspan.IsNull(value) || jsonspan.EachElement(value, func(call []byte) bool { ok = a.call(c, call); return ok }) == nil && ok
	}
	return c.delta.same(key, value)
}

func (a *Assembly) call(c *choiceParts, call []byte) bool {
	index, ok := indexOf(call)
	if !ok {
		return false
	}
	i := slices.IndexFunc(c.calls, func(p *callParts) bool { return p.index == index })
	if i < 0 {
		c.calls = append(c.calls, &callParts{index: index})
		i = len(c.calls) - 1
	}
	p := c.calls[i]
	err := jsonspan.EachMember(call, func(key, value []byte) bool {
		switch string(key) {
		case "index":
		case "function", "custom":
			p.kind = bytes.Clone(key)
			ok = jsonspan.EachMember(value, func(key, value []byte) bool {
				switch string(key) {
				case "arguments", "input":
					ok = p.inner.grow(key, value)
				default:
					ok = empty(value) || p.inner.same(key, value)
				}
				return ok
			}) == nil && ok
		default:
			ok = empty(value) || p.members.same(key, value)
		}
		return ok
	})
	return err == nil && ok
}

// lengthen appends to the array that a member is.
func lengthen(f *fields, key, value []byte) bool {
	if jsonspan.IsNull(value) {
		return f.first(key, value)
	}
	if len(value) < 2 || value[0] != '[' {
		return false
	}
	x := f.at(key)
	if x.value == nil || jsonspan.IsNull(x.value) || string(x.value) == "[]" {
		x.value = bytes.Clone(value)
		return true
	}
	if string(value) != "[]" {
		x.value = append(append(x.value[:len(x.value)-1], ','), value[1:]...)
	}
	return true
}

// Whole gives the answer; false if something was refused or nothing came.
func (a *Assembly) Whole() ([]byte, bool) {
	if a.refused || len(a.choices) == 0 || len(a.top) == 0 {
		return nil, false
	}
	for _, c := range a.choices {
		if slices.ContainsFunc(c.calls, func(p *callParts) bool { return p.kind == nil }) {
			return nil, false // a call of nothing is no call
		}
	}
	b := append(a.top.appendJSON([]byte{'{'}), `,"choices":[`...)
	for i, c := range a.choices {
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

func (c *choiceParts) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(c.index), 10)
	if c.chat {
		b = c.appendMessage(append(b, `,"message":`...))
	}
	if len(c.members) > 0 {
		b = c.members.appendJSON(append(b, ','))
	}
	b = append(b, `,"logprobs":`...)
	if len(c.list) > 0 {
		b = append(c.list.appendJSON(append(b, '{')), '}')
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"finish_reason":`...)
	if c.finish == nil {
		return append(b, "null}"...)
	}
	return append(append(b, c.finish...), '}')
}

func (c *choiceParts) appendMessage(b []byte) []byte {
	c.delta.first([]byte("role"), []byte(`"assistant"`))
	if content := c.delta.at([]byte("content")); content.value == nil || content.text && len(content.value) == 0 && len(c.calls) > 0 {
		*content = fieldOf{key: content.key, value: []byte("null")}
	}
	b = c.delta.appendJSON(append(b, '{'))
	for i, p := range c.calls {
		if i == 0 {
			b = append(b, `,"tool_calls":[`...)
		} else {
			b = append(b, ',')
		}
		b = p.members.appendJSON(append(b, '{'))
		if len(p.members) > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), p.kind...), `":{`...)
		b = append(p.inner.appendJSON(b), `}}`...)
	}
	if len(c.calls) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// fields are the members of an object that is put together from parts, in the order in which they came.
type fields []fieldOf

type fieldOf struct {
	key   []byte
	value []byte
	text  bool // value is the inside of a string that grows
}

// index is where a member stands, negative if it did not come.
func (f *fields) index(key []byte) int {
	return slices.IndexFunc(*f, func(x fieldOf) bool { return bytes.Equal(x.key, key) })
}

func (f *fields) at(key []byte) *fieldOf {
	i := f.index(key)
	if i < 0 {
		*f = append(*f, fieldOf{key: bytes.Clone(key)})
		i = len(*f) - 1
	}
	return &(*f)[i]
}

// same takes a member that may come once, or again as it was; false if it changed, since nobody knows then what the whole is.
func (f *fields) same(key, value []byte) bool {
	x := f.at(key)
	if x.value == nil || jsonspan.IsNull(x.value) {
		x.value = bytes.Clone(value)
		return !x.text
	}
	return !x.text && (jsonspan.IsNull(value) || bytes.Equal(x.value, value))
}

// first keeps the first of many, last the last one.
func (f *fields) first(key, value []byte) bool {
	if x := f.at(key); x.value == nil || jsonspan.IsNull(x.value) {
		x.value = bytes.Clone(value)
	}
	return true
}

func (f *fields) last(key, value []byte) bool {
	if x := f.at(key); x.value == nil || !jsonspan.IsNull(value) {
		x.value = bytes.Clone(value)
	}
	return true
}

// grow appends to a string. Its parts stay escaped as they were.
func (f *fields) grow(key, value []byte) bool {
	x := f.at(key)
	if jsonspan.IsNull(value) {
		if x.value == nil {
			x.value = []byte("null")
		}
		return true
	}
	part, ok := jsonspan.Inside(value)
	if !ok || x.value != nil && !x.text && !jsonspan.IsNull(x.value) {
		return false
	}
	if !x.text {
		x.text, x.value = true, []byte{}
	}
	x.value = append(x.value, part...)
	return true
}

// appendJSON appends the members without braces.
func (f fields) appendJSON(b []byte) []byte {
	for i, x := range f {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), x.key...), `":`...)
		if x.text {
			b = append(append(append(b, '"'), x.value...), '"')
		} else {
			b = append(b, x.value...)
		}
	}
	return b
}
