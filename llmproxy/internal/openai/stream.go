package openai

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Framing is how the events of a stream say what they say.
type Framing uint8

const (
	// Chunks is chat and completions: every event is a chunk with choices, and [DONE] the last one.
	Chunks Framing = iota
	// Typed is responses, audio and images: every event has a "type".
	Typed
)

// An Event is what one event of a stream says. The zero event is one that may be passed on unread.
type Event struct {
	Content   bool // it carries something of the answer; only First tells
	Finish    bool // it ends the answer, or a choice of it
	Done      bool // it is [DONE]
	Malformed bool // it should be a JSON object and is none, or not all of it
	UsageOnly bool // it is the chunk that stream_options.include_usage asks for
	Finishes  int  // how many choices it ends
	Usage     Usage
	HasUsage  bool
	Text      TextCount // only Next tells
	Err       []byte    // the raw value of an error, object or string; nil for none
}

// First looks at an event before the answer is committed to, when it matters whether it carries content.
func (f Framing) First(name, data []byte) Event {
	if done(data) {
		return Event{Done: true}
	}
	if _, whole := skim(data, nil); !whole {
		return Event{Malformed: true}
	}
	return f.read(name, data)
}

// Next looks at an event after the answer was committed to. What cannot hold news is not parsed: nearly every event.
func (f Framing) Next(name, data []byte) Event {
	var said TextCount
	count := &said
	if !f.texts(name) {
		count = nil
	}
	news, whole := skim(data, count)
	if !whole {
		return f.First(name, data)
	}
	if f == Chunks && len(name) == 0 && !news {
		return Event{Text: said}
	}
	e := f.read(name, data)
	e.Text = said
	return e
}

func (f Framing) read(name, data []byte) Event {
	if f == Typed {
		return typed(name, data)
	}
	return chunk(name, data)
}

func done(data []byte) bool {
	return len(data) < 16 && string(bytes.TrimSpace(data)) == "[DONE]"
}

// chunk reads a chunk of chat or completions.
func chunk(name, data []byte) Event {
	var e Event
	choices := 0
	usage := false
	err := jsonspan.EachMember(data, func(key, value []byte) bool {
		switch string(key) {
		case "choices":
			choices = e.readChoices(value)
		case "usage":
			usage = !jsonspan.IsNull(value)
			e.Usage, e.HasUsage = ParseUsage(value)
		case "error":
			if !jsonspan.IsNull(value) {
				e.Err = value
			}
		}
		return true
	})
	if e.Err == nil && string(name) == "error" && err == nil {
		e.Err = data
	}
	e.UsageOnly = usage && choices == 0
	return e
}

func (e *Event) readChoices(choices []byte) (n int) {
	_ = jsonspan.EachElement(choices, func(choice []byte) bool { // null is no choices
		n++
		_ = jsonspan.EachMember(choice, func(key, value []byte) bool {
			switch string(key) {
			case "delta", "message": // a server that cannot stream sends its message in one chunk
				e.Content = e.Content || hasContent(value)
			case "text":
				e.Content = e.Content || !empty(value)
			case "finish_reason":
				if !jsonspan.IsNull(value) {
					e.Finishes++
				}
			}
			return true
		})
		return true
	})
	if e.Finishes > 0 {
		e.Finish, e.Content = true, true // an empty answer is an answer
	}
	return n
}

// hasContent reports whether a delta carries a part of the answer; the first one of a stream only has the role.
func hasContent(delta []byte) (found bool) {
	_ = jsonspan.EachMember(delta, func(key, value []byte) bool { // null says nothing
		switch string(key) {
		case "content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call", "audio", "images":
			found = !empty(value)
		}
		return !found
	})
	return found
}

// empty reports whether a value holds nothing. vLLM sends "content":"" and "tool_calls":[] where it has nothing to say.
func empty(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return false
}
