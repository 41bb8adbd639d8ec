package answercache

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
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
		return l.toStream(e)
	}
	return l.toWhole(e)
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

// toStream makes a stream of a whole answer.
func (l *lookup) toStream(e *caching.Entry) (*caching.Entry, bool) {
	stream := *e
	stream.Form, stream.ContentType, stream.Body = caching.Events, eventType, make([]byte, 0, 2*len(e.Body))
	ok := relay.Split(l.x.Endpoint, e.Body, func(event []byte, usage bool) {
		start := len(stream.Body)
		stream.Body = append(stream.Body, event...)
		if usage {
			stream.Extra = append(stream.Extra, caching.Span{Start: start, End: len(stream.Body)})
		}
	})
	return &stream, ok
}

// toWhole makes a whole answer of a stream.
func (l *lookup) toWhole(e *caching.Entry) (*caching.Entry, bool) {
	whole := *e
	var ok bool
	whole.Form, whole.ContentType, whole.Extra = caching.Whole, jsonType, nil
	whole.Body, ok = relay.Join(l.x.Endpoint, e.Body)
	return &whole, ok
}
