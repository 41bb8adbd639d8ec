package openai

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// Framing is how the events of a stream are structured.
type Framing uint8

const (
	// Chunks is chat and completions: every event is a chunk with choices, and the last one is [DONE].
	Chunks Framing = iota
	// Typed is responses, audio and images: every event has a "type".
	Typed
)

// An Event is what the gateway must know of one event of a stream. The zero Event can be passed on unchanged.
type Event struct {
	Content   bool               // it carries a part of the answer; set by First only
	Opens     bool               // it opens a part of the answer that has no content yet: the model is generating; set by First only
	Whole     bool               // it has a whole message, not parts of one; set by First only
	Finish    bool               // it ends the answer, or a choice of it
	Done      bool               // it is [DONE]
	Malformed bool               // it is neither [DONE] nor a complete JSON object
	Terminal  bool               // it states the final status of a response and is passed on as it is, even with Err
	UsageOnly bool               // it is the chunk that stream_options.include_usage requests
	Finishes  int                // how many choices it ends
	Reason    []byte             // the raw reason of the last of them
	Usage     []byte             // the raw usage object, for ParseUsage; or nil
	Tier      []byte             // the raw service tier, for ParseServiceTier; or nil
	Timings   []byte             // the raw timings, for ParseTimings; or nil
	Text      jsonspan.TextCount // set by Next only
	Err       []byte             // the raw value of an error, an object or a string; or nil
}

// An EventReader reads the events of a stream: First before anything was sent to the client, Next after the answer has begun.
type EventReader interface {
	First(name, data []byte) Event
	Next(name, data []byte) Event
}

// First reads an event before anything was sent to the client, when it matters whether the event carries content.
func (f Framing) First(name, data []byte) Event {
	if isDone(data) {
		return Event{Done: true}
	}
	if f == Chunks {
		e, valid := readChunk(name, data)
		if !valid && !IsObject(data) {
			return Event{Malformed: true}
		}
		return e
	}
	if !IsObject(data) {
		return Event{Malformed: true}
	}
	e := readTyped(name, data)
	if e.Content && !e.Finish {
		e.Content, e.Opens = readProgress(name, data)
	}
	return e
}

// Next reads an event after the answer has begun. Most events contain nothing of interest but their text, and are only prescanned.
func (f Framing) Next(name, data []byte) Event {
	var text jsonspan.TextCount
	count := &text
	if f == Typed && !bytes.HasSuffix(name, []byte(".delta")) {
		count = nil // the events that end a part repeat all of its text
	}
	significant, complete := prescan(data, count)
	if !complete {
		return f.First(name, data)
	}
	if f == Chunks && len(name) == 0 && !significant {
		return Event{Text: text}
	}
	e := f.read(name, data)
	e.Text, e.Whole = text, false
	return e
}

func (f Framing) read(name, data []byte) Event {
	if f == Typed {
		return readTyped(name, data)
	}
	e, _ := readChunk(name, data)
	return e
}

func isDone(data []byte) bool {
	return len(data) < 16 && string(bytes.TrimSpace(data)) == "[DONE]"
}

// readChunk reads a chunk in one pass, because the first one with content may be long. It reports whether the data is valid JSON. If it is not,
// the members before the one with the error count.
func readChunk(name, data []byte) (e Event, valid bool) {
	s := jsonspan.Scanner{Text: data}
	start := s.Space(0)
	if start == len(data) || data[start] != '{' {
		return e, false
	}
	choices := 0
	end := s.Object(start, 1, func(key jsonspan.Span, at int) (end int) {
		if string(key.Of(data)) == "choices" {
			before := e
			if choices, end = e.readChoices(&s, at); end == jsonspan.Failed {
				e = before
			}
			return end
		}
		if end = s.Value(at, 1); end == jsonspan.Failed {
			return end
		}
		switch key, value := key.Of(data), data[at:end]; string(key) {
		case "error":
			if !isNoError(value) {
				e.Err = value
			}
		default:
			e.readMetered(key, value)
			e.UsageOnly = e.UsageOnly || string(key) == "usage" && e.Usage != nil
		}
		return end
	})
	valid = end != jsonspan.Failed
	if e.Err == nil && string(name) == "error" && valid {
		e.Err = data
	}
	e.UsageOnly = e.UsageOnly && choices == 0
	return e, valid && s.Space(end) == len(data)
}

// readMetered reads a member of a chunk or a response that decides what the answer costs.
func (e *Event) readMetered(key, value []byte) {
	switch string(key) {
	case "service_tier":
		e.Tier = value
		return
	case "timings":
		e.Timings = value
		return
	}
	usage := UsageIn(key, value)
	if usage != nil && e.Usage != nil { // a placeholder does not replace a count
		if _, counts := ParseUsage(usage); !counts {
			return
		}
	}
	if usage != nil {
		e.Usage = usage
	}
}

// readChoices reads the choices of a chunk, which may be null, and returns their number and the offset after them.
func (e *Event) readChoices(s *jsonspan.Scanner, at int) (n, end int) {
	if !begins(s, at, '[') {
		return 0, s.Value(at, 1)
	}
	end = s.Array(at, 2, func(at int) int {
		n++
		return e.readChoice(s, at)
	})
	if e.Finishes > 0 {
		e.Finish, e.Content = true, true // an empty answer is an answer
	}
	return n, end
}

func (e *Event) readChoice(s *jsonspan.Scanner, at int) int {
	if !begins(s, at, '{') {
		return s.Value(at, 2)
	}
	finishes, isPart, isMessage := e.Finishes, false, false
	end := s.Object(at, 3, func(key jsonspan.Span, at int) (end int) {
		found := false
		switch string(key.Of(s.Text)) {
		case "delta":
			isPart = true
			found, end = readDelta(s, at)
			e.Content = e.Content || found
			return end
		case "message": // a server that cannot stream sends its message in one chunk
			isMessage, end = readDelta(s, at)
			e.Content = e.Content || isMessage
			return end
		}
		if end = s.Value(at, 3); end == jsonspan.Failed {
			return end
		}
		switch key, value := key.Of(s.Text), s.Text[at:end]; string(key) {
		case "text", "reasoning_content", "reasoning": // of completions
			e.Content = e.Content || !isEmpty(value)
		case "finish_reason":
			if namesReason(value) {
				e.Reason = value
				e.Finishes++
			}
		case "usage": // Moonshot
			e.readMetered(key, value)
		}
		return end
	})
	e.Whole = e.Whole || isMessage && !isPart && e.Finishes > finishes
	return end
}

// begins reports whether a value begins with c.
func begins(s *jsonspan.Scanner, at int, c byte) bool { return at < len(s.Text) && s.Text[at] == c }

// namesReason reports whether a finish reason names one. Some servers send a placeholder with every chunk until the choice really
// ends: an empty string, or a word for nothing. If that ended a choice, a stream that breaks off would look complete.
func namesReason(value []byte) bool {
	raw, ok := jsonspan.RawString(value)
	if !ok {
		return false
	}
	reason := bytes.TrimSpace(jsonspan.Unescape(raw))
	return len(reason) > 0 && !slices.ContainsFunc(noReasons, func(no []byte) bool { return bytes.EqualFold(reason, no) })
}

var noReasons = [][]byte{
	[]byte("null"), []byte("none"), []byte("nil"), []byte("undefined"), []byte("unspecified"), []byte("finish_reason_unspecified"),
	[]byte("not_finished"),
}

// hasContent reports whether a delta or a message carries a part of the answer. The first delta of a stream often has only the role.
func hasContent(delta []byte) bool {
	s := jsonspan.Scanner{Text: delta}
	found, _ := readDelta(&s, s.Space(0))
	return found
}

// readDelta is hasContent for a part of a chunk. It returns the offset after it.
func readDelta(s *jsonspan.Scanner, at int) (found bool, end int) {
	if !begins(s, at, '{') {
		return false, s.Value(at, 3) // it may be null
	}
	end = s.Object(at, 4, func(key jsonspan.Span, at int) int {
		end := s.Value(at, 4)
		if end == jsonspan.Failed {
			return end
		}
		switch string(key.Of(s.Text)) {
		case "content", "reasoning_content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call", "audio", "images":
			found = found || !isEmpty(s.Text[at:end])
		}
		return end
	})
	return found, end
}

// readTyped reads an event that has a type.
func readTyped(name, data []byte) Event {
	kind, failure := eventType(name, data)
	if failure != nil {
		return Event{Err: failure}
	}
	finish := Event{Content: true, Finish: true, Finishes: 1}
	switch string(kind) {
	case "":
		return readUntyped(data)
	case "response.created", "response.queued", "response.in_progress", "keepalive", "ping":
		return Event{}
	case "response.completed", "response.incomplete", "response.cancelled":
		finish.Terminal = true
		finish.readResponse(member(data, "response"))
		return finish
	case "response.failed":
		e := Event{Err: data, Terminal: true}
		e.readResponse(member(data, "response"))
		return e
	case "transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed":
		finish.readResponse(data)
		return finish
	}
	return Event{Content: true}
}

// eventType returns the type of an event, and its error if it has one. A name with a dot in it is the type: Ollama writes the member
// "type" last, so looking for that takes a pass over the whole event.
func eventType(name, data []byte) (kind, failure []byte) {
	if bytes.IndexByte(name, '.') > 0 {
		return name, nil
	}
	kind = name
	_ = jsonspan.EachMember(data, func(key, value []byte) bool { // data that is not an object has no type
		switch string(key) {
		case "type":
			if raw, ok := jsonspan.RawString(value); ok {
				kind = raw
			}
		case "error":
			if !isNoError(value) {
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

// readUntyped reads an event without a type. vLLM streams its transcriptions as chunks with choices. These have a finish reason for
// every half minute of audio, so only [DONE] ends them. Any other event counts as content.
func readUntyped(data []byte) Event {
	hasChoices := false
	err := jsonspan.EachMember(data, func(key, _ []byte) bool {
		hasChoices = string(key) == "choices"
		return !hasChoices
	})
	if hasChoices {
		e, _ := readChunk(nil, data)
		e.Finish, e.Finishes = false, 0
		return e
	}
	return Event{Content: err == nil}
}

// readResponse reads the response inside an event, or an event that is one.
func (e *Event) readResponse(response []byte) {
	_ = jsonspan.EachMember(response, func(key, value []byte) bool { // an absent response has no members
		switch string(key) {
		case "error":
			if !isNoError(value) {
				e.Err = value
			}
		default:
			e.readMetered(key, value)
		}
		return true
	})
}

// CompletedResponse returns the whole response inside the last event of the Responses API.
func CompletedResponse(name, data []byte) (response []byte, ok bool) {
	kind, failure := eventType(name, data)
	if failure != nil || string(kind) != "response.completed" && string(kind) != "response.incomplete" {
		return nil, false
	}
	response = member(data, "response")
	return response, response != nil
}
