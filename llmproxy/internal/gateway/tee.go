package gateway

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A tee writes an answer to its client and to those who follow. When the client leaves while others follow, it goes on.
type tee struct {
	http.ResponseWriter
	c      *call
	flight *caching.Flight
	client context.Context
	flush  *http.ResponseController
	events bool
	begun  bool
	gone   bool
}

// begin tells those who follow that the answer is there.
func (t *tee) begin() {
	contentType := t.Header().Get("Content-Type")
	media, _, _ := mime.ParseMediaType(contentType) // what cannot be read is no stream
	t.events, t.begun = media == "text/event-stream", true
	head := caching.Head{Form: caching.Whole, ContentType: contentType, Target: t.c.rec.Target, Route: t.c.rec.Route}
	if t.events {
		head.Form = caching.Events
	}
	t.flight.Begin(head)
}

var usageKey = []byte(`"usage"`)

// Write implements http.ResponseWriter. What it is given of a stream is whole events, those with the usage included; of
// these the client gets what it asked for.
func (t *tee) Write(p []byte) (int, error) {
	if !t.c.committed { // an error, or a sign of life
		return t.ResponseWriter.Write(p)
	}
	if !t.begun {
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

func (t *tee) pass(p []byte, usage bool) error {
	if len(p) == 0 {
		return nil
	}
	t.flight.Write(p, usage)
	if usage && !t.c.head.IncludeUsage {
		return nil
	}
	return t.forgive(func() error { _, err := t.ResponseWriter.Write(p); return err })
}

// FlushError implements what http.ResponseController looks for.
func (t *tee) FlushError() error { return t.forgive(t.flush.Flush) }

// forgive does something for the client. That it is gone is no error while others follow.
func (t *tee) forgive(do func() error) error {
	if !t.gone && t.client.Err() == nil {
		err := do()
		if err == nil || errors.Is(err, http.ErrNotSupported) {
			return err
		}
		t.gone = true
		if !t.flight.Followed() {
			return err
		}
	}
	t.gone = true
	return nil
}

// Unwrap gives http.ResponseController the client's writer.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }
