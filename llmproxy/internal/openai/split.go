package openai

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

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
		visit(oneLine(slices.Concat(head, choice, []byte(end), usage, []byte{'}'})), usage != nil)
	}
	for _, part := range [...]func(b []byte, choice []byte) ([]byte, bool){appendContent, appendFinish} {
		n := 0
		if !eachElement(choices, func(choice []byte) bool {
			index, ok := indexOf(choice, n)
			if !ok {
				return false
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
