package wire

import "strconv"

// Whole gives the answer; false if something was refused or nothing came.
func (a *Assembly) Whole() ([]byte, bool) {
	if a.refused || len(a.choices) == 0 || len(a.top) == 0 {
		return nil, false
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
	if len(c.delta) > 0 || len(c.calls) > 0 {
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
		b = append(p.members.appendJSON(append(b, '{')), `,"`...)
		b = append(append(b, p.kind...), `":{`...)
		b = append(p.inner.appendJSON(b), `}}`...)
	}
	if len(c.calls) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}
