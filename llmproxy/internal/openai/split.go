package openai

import (
	"bytes"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Split makes the events of a stream from a whole chat or text completion and shows the data of each: a chunk with all of
// each choice, one with each finish reason, and one with the usage, last. It is false if the answer is not of that shape;
// then what was shown is not to be used.
func Split(body []byte, visit func(data []byte, usage bool)) bool {
	s := splitting{visit: visit}
	err := jsonspan.EachMember(body, func(key, value []byte) bool {
		switch string(key) {
		case "choices":
			s.choices = value
		case "usage":
			s.usage = value
		case "object":
			value = bytes.Replace(value, []byte(`"chat.completion"`), []byte(`"chat.completion.chunk"`), 1)
			s.top = appendMember(s.top, key, value)
		default:
			s.top = appendMember(s.top, key, value)
		}
		return true
	})
	if err != nil || s.choices == nil {
		return false
	}
	s.each(s.begin)
	s.each(s.finish)
	if s.usage != nil && !jsonspan.IsNull(s.usage) {
		s.show(func(b []byte) []byte { return b }, true)
	}
	return !s.unfit && s.n > 0
}

type splitting struct {
	visit          func([]byte, bool)
	top            []byte // members, each with a comma behind it
	choices, usage []byte
	n              int
	unfit          bool
}

func appendMember(b, key, value []byte) []byte {
	b = append(append(append(b, '"'), key...), `":`...)
	return append(append(b, value...), ',')
}

func (s *splitting) show(choice func([]byte) []byte, usage bool) {
	b := append(append([]byte{'{'}, s.top...), `"choices":[`...)
	b = append(choice(b), ']')
	if usage {
		b = append(append(b, `,"usage":`...), s.usage...)
	}
	b = append(b, '}')
	for i, c := range b { // white space between tokens; inside strings there are none
		if c == '\n' || c == '\r' {
			b[i] = ' '
		}
	}
	s.visit(b, usage)
}

func (s *splitting) each(part func(index int, choice []byte) func([]byte) []byte) {
	n := 0
	err := jsonspan.EachElement(s.choices, func(choice []byte) bool {
		index, ok := indexOf(choice)
		if !ok {
			index = n
		}
		n++
		s.show(part(index, choice), false)
		return true
	})
	s.n, s.unfit = n, s.unfit || err != nil
}

// begin is all of a choice but how it finished.
func (s *splitting) begin(index int, choice []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b = strconv.AppendInt(append(b, `{"index":`...), int64(index), 10)
		found := false
		err := jsonspan.EachMember(choice, func(key, value []byte) bool {
			switch string(key) {
			case "index", "finish_reason":
			case "message":
				found = true
				b = s.delta(append(b, `,"delta":`...), value)
			default:
				found = found || string(key) == "text"
				b = append(append(append(b, `,"`...), key...), `":`...)
				b = append(b, value...)
			}
			return true
		})
		s.unfit = s.unfit || err != nil || !found
		return append(b, `,"finish_reason":null}`...)
	}
}

// delta is a message; its tool calls get the numbers by which clients put streams together.
func (s *splitting) delta(b, message []byte) []byte {
	b = append(b, '{')
	comma := false
	err := jsonspan.EachMember(message, func(key, value []byte) bool {
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = append(append(append(b, '"'), key...), `":`...)
		if string(key) != "tool_calls" || jsonspan.IsNull(value) {
			b = append(b, value...)
			return true
		}
		b = s.calls(b, value)
		return true
	})
	s.unfit = s.unfit || err != nil
	return append(b, '}')
}

func (s *splitting) calls(b, calls []byte) []byte {
	b = append(b, '[')
	n := 0
	err := jsonspan.EachElement(calls, func(call []byte) bool {
		if n > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"index":`...), int64(n), 10)
		n++
		err := jsonspan.EachMember(call, func(key, value []byte) bool {
			if string(key) != "index" {
				b = append(append(append(b, `,"`...), key...), `":`...)
				b = append(b, value...)
			}
			return true
		})
		s.unfit = s.unfit || err != nil
		b = append(b, '}')
		return true
	})
	s.unfit = s.unfit || err != nil
	return append(b, ']')
}

func (s *splitting) finish(index int, choice []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		part, reason := `,"delta":{}`, []byte("null")
		_ = jsonspan.EachMember(choice, func(key, value []byte) bool { // begin has looked at it
			switch string(key) {
			case "text":
				part = `,"text":""`
			case "finish_reason":
				reason = value
			}
			return true
		})
		b = strconv.AppendInt(append(b, `{"index":`...), int64(index), 10)
		b = append(append(b, part...), `,"finish_reason":`...)
		return append(append(b, reason...), '}')
	}
}
