package wire

import (
	"bytes"
	"slices"
	"strconv"
)

// An Assembly puts the chunks of a stream of chat or completions together to the answer that the same request would have got
// without a stream. What it does not know how to put together it refuses, rather than lose a part.
type Assembly struct {
	top     fields
	choices []*choiceParts
	usage   []byte
	refused bool
	last    alikeness
}

type choiceParts struct {
	index   int
	members fields
	delta   fields
	calls   []*callParts
	list    fields // the arrays of its logprobs
	finish  []byte
}

type callParts struct {
	index   int
	members fields
	inner   fields // of function or custom
	kind    []byte
}

// Add takes the data of the next event.
func (a *Assembly) Add(data []byte) {
	if a.refused || done(data) || a.last.take(data) {
		return
	}
	err := EachMember(a.last.begin(data), func(key, value []byte) bool { a.ok(a.member(key, value)); return !a.refused })
	a.ok(err == nil)
}

func (a *Assembly) ok(ok bool) { a.refused = a.refused || !ok }

func (a *Assembly) member(key, value []byte) bool {
	switch string(key) {
	case "choices":
		if null(value) {
			return true
		}
		return EachElement(value, func(choice []byte) bool { a.ok(a.choice(choice)); return !a.refused }) == nil
	case "usage":
		if !null(value) {
			a.usage = bytes.Clone(value)
		}
		return true
	case "obfuscation": // padding of the stream
		if _, ok := inside(value); ok {
			a.last.hole(value, nil, 0)
		}
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

// grow appends to a string that will most likely grow again.
func (a *Assembly) grow(f *fields, key, value []byte) bool {
	if !f.grow(key, value) {
		return false
	}
	if !null(value) {
		a.last.hole(value, f, f.index(key))
	}
	return true
}

func (a *Assembly) choice(choice []byte) bool {
	c, ok := a.choiceAt(choice), true
	if c == nil {
		return false
	}
	err := EachMember(choice, func(key, value []byte) bool {
		switch string(key) {
		case "index":
		case "delta":
			ok = null(value) || EachMember(value, func(key, value []byte) bool { ok = a.said(c, key, value); return ok }) == nil && ok
		case "text":
			ok = a.grow(&c.members, key, value)
		case "logprobs":
			a.last.unfit = a.last.unfit || !null(value)
			ok = null(value) || EachMember(value, func(key, value []byte) bool { ok = lengthen(&c.list, key, value); return ok }) == nil && ok
		case "finish_reason":
			if !null(value) {
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
	_ = EachMember(object, func(key, value []byte) bool { // without one it has none
		if string(key) == "index" {
			n, err := strconv.Atoi(string(value))
			index, ok = n, err == nil && n >= 0
		}
		return !ok
	})
	return index, ok
}

func (a *Assembly) said(c *choiceParts, key, value []byte) bool {
	switch string(key) {
	case "role":
		return c.delta.first(key, value)
	case "content", "reasoning_content", "reasoning", "refusal":
		return a.grow(&c.delta, key, value)
	case "tool_calls":
		ok := true
		return null(value) || EachElement(value, func(call []byte) bool { ok = a.call(c, call); return ok }) == nil && ok
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
	err := EachMember(call, func(key, value []byte) bool {
		switch string(key) {
		case "index":
		case "function", "custom":
			p.kind = bytes.Clone(key)
			ok = EachMember(value, func(key, value []byte) bool {
				switch string(key) {
				case "arguments", "input":
					ok = a.grow(&p.inner, key, value)
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
	if null(value) {
		return f.first(key, value)
	}
	if len(value) < 2 || value[0] != '[' {
		return false
	}
	x := f.at(key)
	if x.value == nil || null(x.value) || string(x.value) == "[]" {
		x.value = bytes.Clone(value)
		return true
	}
	if string(value) != "[]" {
		x.value = append(append(x.value[:len(x.value)-1], ','), value[1:]...)
	}
	return true
}
