package answercache

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

const (
	eventType = "text/event-stream; charset=utf-8"
	jsonType  = "application/json"
)

// wantedForm returns the form of answer that the client asked for.
func (l *lookup) wantedForm() caching.Form {
	if l.x.Record.Stream && l.x.Endpoint.Streams() {
		return caching.Events
	}
	return caching.Whole
}

// convert returns an entry in the wanted form. It returns false if that is not possible without loss.
func (l *lookup) convert(e *caching.Entry, want caching.Form) (*caching.Entry, bool) {
	switch {
	case e.Form == want:
		return e, true
	case want == caching.Events:
		return split(e)
	}
	return assemble(e, l.x.Endpoint.Framing)
}

// attendedSize is the size from which on a replay watches whether the client reads it, in bytes. The buffers of a connection take less.
const attendedSize = 64 << 10

// replay sends an entry to the client.
func (l *lookup) replay(e *caching.Entry, result string) *openai.Error {
	begun, failed := l.begin(e, result)
	if failed != nil {
		return failed
	}
	if len(e.Body) >= attendedSize {
		defer l.x.Attend(l.to)()
	}
	if e.Form == caching.Whole {
		return l.end(relay.ReplayWhole(l.to, e.ContentType, e.Body))
	}
	var array [4][]byte
	pieces := array[:0]
	e.Pieces(l.includesUsage(), func(piece []byte) { pieces = append(pieces, piece) })
	return l.end(relay.ReplayStream(l.to, unlessBegun(begun, e.ContentType), pieces))
}

// includesUsage reports whether the client asked for the event with the usage.
func (l *lookup) includesUsage() bool { return l.planned.Body.JSON().IncludeUsage }

// unlessBegun returns the content type of a stream; empty if a ping has already sent its header.
func unlessBegun(begun bool, contentType string) string {
	if begun {
		return ""
	}
	return contentType
}

// split makes a stream of a whole answer.
func split(e *caching.Entry) (*caching.Entry, bool) {
	stream := *e
	stream.Form, stream.ContentType, stream.Body = caching.Events, eventType, make([]byte, 0, 2*len(e.Body))
	ok := openai.Split(e.Body, func(data []byte, usage bool) {
		start := len(stream.Body)
		stream.Body = sse.AppendData(stream.Body, data)
		if usage {
			stream.Extra = append(stream.Extra, caching.Span{Start: start, End: len(stream.Body)})
		}
	})
	stream.Body = sse.AppendData(stream.Body, []byte("[DONE]"))
	return &stream, ok
}

// assemble makes a whole answer of a stream.
func assemble(e *caching.Entry, framing openai.Framing) (*caching.Entry, bool) {
	whole := *e
	whole.Form, whole.ContentType, whole.Body, whole.Extra = caching.Whole, jsonType, nil, nil
	parts := openai.Assembler{Framing: framing}
	for rest := e.Body; len(rest) > 0; {
		var event sse.Event
		if event, rest = sse.Cut(rest); event.HasData {
			parts.Add(event.Name, event.Data)
		}
	}
	var ok bool
	whole.Body, ok = parts.Answer()
	return &whole, ok
}
