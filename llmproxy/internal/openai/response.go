package openai

import (
	"bytes"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A ResponseState is what the events that end a stream of the Responses API repeat or continue. The zero value is that of a stream of
// which nothing was sent.
type ResponseState struct {
	ID, Model string // empty if no event stated them
	Created   int64  // in seconds since 1970; zero if no event stated it
	Next      int64  // the next sequence number
}

// ReadHead reads the ID, model and time of a response from the event that created it.
func (s *ResponseState) ReadHead(event []byte) { s.Read(member(event, "response")) }

// Read reads the ID, model and time of a response that was validated.
func (s *ResponseState) Read(response []byte) {
	jsonspan.Members(response, func(key, value []byte) bool { // other events than the first have no response
		switch string(key) {
		case "id":
			s.ID, _ = jsonspan.String(value)
		case "model":
			s.Model, _ = jsonspan.String(value)
		case "created_at":
			s.Created = parseCount(value)
		}
		return s.ID == "" || s.Model == "" || s.Created == 0
	})
}

// The key of a sequence number. Quotes inside of a string are escaped, so this is a key wherever it occurs.
var sequenceKey = []byte(`"sequence_number":`)

// Sent notes the sequence number of the last of some events that were sent. It only searches for it, from the end.
func (s *ResponseState) Sent(events []byte) {
	i := bytes.LastIndex(events, sequenceKey)
	if i < 0 {
		return
	}
	digits := bytes.TrimLeft(events[i+len(sequenceKey):], " \t")
	n := 0
	for n < len(digits) && '0' <= digits[n] && digits[n] <= '9' {
		n++
	}
	if n > 0 {
		s.Next = parseCount(digits[:n]) + 1
	}
}

// AppendFailedResponse appends the data of the event response.failed, which ends a stream of the Responses API. Codex understands only
// this event and ignores "error". Of OpenAI's codes, it waits only after rate_limit_exceeded for as long as the message says.
func (e *Error) AppendFailedResponse(b []byte, s ResponseState) []byte {
	if s.Created == 0 {
		s.Created = time.Now().Unix()
	}
	b = append(b, `{"type":"response.failed","sequence_number":`...)
	b = strconv.AppendInt(b, s.Next, 10)
	b = append(b, `,"response":{"id":`...)
	b = jsonspan.AppendString(b, s.ID)
	b = append(b, `,"object":"response","created_at":`...)
	b = strconv.AppendInt(b, s.Created, 10)
	b = append(b, `,"status":"failed","error":{"code":`...)
	code := e.Code
	if code == "queue_full" {
		code = "rate_limit_exceeded"
	}
	b = appendStringOrNull(b, code)
	b = append(b, `,"message":`...)
	b = jsonspan.AppendString(b, e.Message)
	b = append(b, `},"incomplete_details":null,"model":`...)
	b = jsonspan.AppendString(b, s.Model)
	return append(b, `,"output":[],"usage":null}}`...)
}
