// Package anthropic knows the shape of the streams of Anthropic's Messages API and reads their events in place, for clients of that
// API that get an answer as the upstream sent it.
//
// It does not translate events: dialect does. It does not split streams into events and does no input or output. It stands above
// openai, whose notion of an event it fills.
package anthropic

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Events reads the events of a stream of the Messages API. Such a stream has one answer, which message_delta ends and message_stop
// closes.
type Events struct{}

// First reads an event before anything was sent to the client.
func (Events) First(name, data []byte) openai.Event {
	if !openai.IsObject(data) {
		return openai.Event{Malformed: true}
	}
	e, _ := read(name, data)
	return e
}

// Next reads an event after the answer has begun, and counts its text.
func (Events) Next(name, data []byte) openai.Event {
	if !openai.IsObject(data) {
		return openai.Event{Malformed: true}
	}
	e, part := read(name, data)
	e.Content, e.Opens = e.Finish, false
	if len(part) > 0 && part[0] == '"' {
		e.Text.AddString(part, 1)
	}
	return e
}

// read reads an event, and returns the text in it, if it has one.
func read(name, data []byte) (e openai.Event, text []byte) {
	var kind, delta, block, message []byte
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // the members before a malformed one count
		switch string(key) {
		case "type":
			kind, _ = jsonspan.RawString(value)
		case "delta":
			delta = value
		case "content_block":
			block = value
		case "message":
			message = value
		case "usage":
			e.Usage = value
		case "error":
			if !isEmpty(value) {
				e.Err = value
			}
		}
		return true
	})
	if len(kind) == 0 {
		kind = name
	}
	switch string(kind) {
	case "message_start":
		e.Usage = member(message, "usage")
	case "content_block_start":
		text, e.Content = content(block)
		e.Opens = !e.Content
	case "content_block_delta":
		text, e.Content = content(delta)
	case "message_delta":
		if reason, ok := jsonspan.RawString(member(delta, "stop_reason")); ok && len(reason) > 0 {
			e.Finish, e.Finishes, e.Content = true, 1, true // an empty answer is an answer
		}
	case "message_stop":
		e.Done = true
	case "error":
		if e.Err == nil {
			e.Err = data
		}
	}
	return e, text
}

// content returns the text of a block, or of a delta of one, and reports whether it has any part of the answer.
func content(block []byte) (text []byte, found bool) {
	_ = jsonspan.EachMember(block, func(key, value []byte) bool { // an absent block has no members
		switch string(key) {
		case "text", "thinking", "partial_json":
			text, found = value, found || !isEmpty(value)
		case "data", "name", "citation":
			found = found || !isEmpty(value)
		}
		return true
	})
	return text, found
}

func member(object []byte, name string) (found []byte) {
	_ = jsonspan.EachMember(object, func(key, value []byte) bool { // an absent object has no members
		if string(key) == name {
			found = value
		}
		return true
	})
	return found
}

func isEmpty(value []byte) bool {
	return jsonspan.IsNull(value) || bytes.Equal(value, []byte(`""`)) || bytes.Equal(value, []byte("{}"))
}
