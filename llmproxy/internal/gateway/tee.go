package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A tee writes an answer down for those who follow and for its own client, which reads along as they do: a slow client keeps
// nobody waiting, neither them nor the upstream, and one that leaves takes nothing from them.
type tee struct {
	http.ResponseWriter
	c      *call
	flight *caching.Flight
	client context.Context
	events bool
	// told is closed when the client was sent what is written down, or is gone; nil before the answer began.
	told chan struct{}
	// Known once told is closed: why the client is not there any more, and what its writer panicked with.
	gone     error
	panicked any

	alone bool // the answer is too long to be written down: its client gets the rest as it comes
}

// begin tells those who follow that the answer is there, and has its client read along.
func (t *tee) begin() {
	contentType := t.Header().Get("Content-Type")
	media, _, _ := mime.ParseMediaType(contentType) // what cannot be read is no stream
	t.events, t.told = media == "text/event-stream", make(chan struct{})
	head := caching.Head{Form: caching.Whole, ContentType: contentType, Target: t.c.rec.Target, Route: t.c.rec.Route}
	if t.events {
		head.Form = caching.Events
	}
	t.flight.Begin(head)
	go t.tell(t.flight.Own(), t.c.head.IncludeUsage)
}

// tell sends the client what is written down. Until it is over, nobody else touches the client's writer.
func (t *tee) tell(r *caching.Follower, usage bool) {
	defer close(t.told)
	defer func() { // net/http survives a handler that panics, but only in its own goroutine
		if t.panicked = recover(); t.panicked != nil {
			t.flight.Leave()
		}
	}()
	_, err := relay.ReadAlong(t.ResponseWriter, t.events, func() ([]byte, error) { return r.Next(t.client, usage) })
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // the end of an answer that broke off
		t.gone = err
		t.flight.Leave()
	}
}

// catchUp waits until the client has what was written down.
func (t *tee) catchUp() {
	if t.told != nil {
		<-t.told
	}
}

var usageKey = []byte(`"usage"`)

// Write implements http.ResponseWriter. What it is given of a stream is whole events, those with the usage included; of
// these the client gets what it asked for.
func (t *tee) Write(p []byte) (int, error) {
	if !t.c.committed { // an error, or a sign of life
		return t.ResponseWriter.Write(p)
	}
	if t.told == nil {
		t.begin()
	}
	if !t.events || !bytes.Contains(p, usageKey) {
		return len(p), t.pass(p, false)
	}
	framing, from := t.c.task.endpoint.Framing, 0
	for at := 0; at < len(p); {
		raw, _ := sse.Split(p[at:])
		e := sse.Parse(raw)
		if e.HasData && framing.Next(e.Name, e.Data).UsageOnly {
			if err := errors.Join(t.pass(p[from:at], false), t.pass(raw, true)); err != nil {
				return 0, err
			}
			from = at + len(raw)
		}
		at += len(raw)
	}
	return len(p), t.pass(p[from:], false)
}

// pass writes down a part of the answer. What is too long for that waits for the client, as an answer does that nobody shares.
func (t *tee) pass(p []byte, usage bool) error {
	if len(p) == 0 || !t.alone && t.flight.Write(p, usage) {
		return nil
	}
	if !t.alone {
		t.catchUp()
		t.flight.Forget()
		t.alone = true
	}
	if t.gone != nil {
		return t.gone
	}
	if usage && !t.c.head.IncludeUsage {
		return nil
	}
	_, err := t.ResponseWriter.Write(p)
	return err
}

// FlushError implements what http.ResponseController looks for.
func (t *tee) FlushError() error {
	if t.told != nil && !t.alone {
		return nil // done with each piece that the client is sent
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// Unwrap gives http.ResponseController the client's writer.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }
