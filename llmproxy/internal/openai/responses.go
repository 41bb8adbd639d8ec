package openai

import (
	"bytes"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// typed reads an event that has a type.
func typed(name, data []byte) Event {
	kind, failure := kindOf(name, data)
	if failure != nil {
		return Event{Err: failure}
	}
	switch string(kind) {
	case "":
		return untyped(data)
	case "response.created", "response.queued", "response.in_progress", "keepalive", "ping":
		return Event{}
	case "response.completed", "response.incomplete":
		e := finished()
		e.readResponse(data)
		return e
	case "response.failed":
		e := Event{Err: data}
		e.readResponse(data)
		return e
	case "transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed":
		e := finished()
		_ = jsonspan.EachMember(data, e.noteUsage) // without a usage the event is as good
		return e
	}
	return Event{Content: true}
}

func finished() Event { return Event{Content: true, Finish: true, Finishes: 1} }

// kindOf gives an event's type, and its error if it is one. The name is the type wherever there is one; Ollama writes the
// "type" last, so that looking there costs a walk through the whole event.
func kindOf(name, data []byte) (kind, failure []byte) {
	if bytes.IndexByte(name, '.') > 0 {
		return name, nil
	}
	kind = name
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // what is no object has no type
		switch string(key) {
		case "type":
			if raw, ok := jsonspan.Inside(value); ok {
				kind = raw
			}
		case "error":
			if !jsonspan.IsNull(value) {
				failure = value
			}
		}
		return failure == nil && (string(key) != "type" || string(kind) == "error")
	})
	if failure == nil && string(kind) == "error" {
		failure = data // flat: {"type":"error","code":…,"message":…}
	}
	return kind, failure
}

// untyped reads an event without a type: vLLM streams its transcriptions as chunks with choices. These finish once for every
// half minute of sound, so that only [DONE] ends them. What is neither has to be content.
func untyped(data []byte) Event {
	hasChoices := false
	err := jsonspan.EachMember(data, func(key, _ []byte) bool {
		hasChoices = string(key) == "choices"
		return !hasChoices
	})
	if hasChoices {
		e := chunk(nil, data)
		e.Finish, e.Finishes = false, 0
		return e
	}
	return Event{Content: err == nil}
}

// readResponse reads the usage and the error of the response inside an event.
func (e *Event) readResponse(data []byte) {
	_ = jsonspan.EachMember(data, func(key, response []byte) bool { // a response that is not there says nothing
		if string(key) != "response" {
			return true
		}
		_ = jsonspan.EachMember(response, func(key, value []byte) bool {
			if string(key) == "error" && !jsonspan.IsNull(value) {
				e.Err = value
			}
			return e.noteUsage(key, value)
		})
		return false
	})
}

func (e *Event) noteUsage(key, value []byte) bool {
	if string(key) == "usage" {
		e.Usage, e.HasUsage = ParseUsage(value)
	}
	return true
}
