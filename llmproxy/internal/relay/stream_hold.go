package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// holdStream reads events until one carries content.
func holdStream(res *http.Response, expect Expect) (Answer, error) {
	s := &stream{res: res, expect: expect, events: sse.NewReader(res.Body, sse.MaxEvent)}
	for {
		batch, err := s.next()
		content, failed := s.look(batch)
		if failed != nil {
			s.events.Close()
			return nil, failed
		}
		if content {
			s.batch, s.atEnd = batch, err
			return s, nil
		}
		if err != nil {
			s.events.Close()
			return nil, ended(err)
		}
		if len(s.held)+len(batch) > maxHeld {
			s.events.Close()
			return nil, ErrTooMuch
		}
		s.held = append(s.held, batch...)
	}
}

// look reports whether one of the events carries content, or an error before it.
func (s *stream) look(batch []byte) (content bool, err error) {
	for len(batch) > 0 {
		var e sse.Event
		e, batch = sse.Cut(batch)
		if e.ErrorField != nil {
			return false, eventError(e.ErrorField)
		}
		if !hasData(&e) {
			continue
		}
		x := s.expect.Endpoint.Framing.First(e.Name, e.Data)
		if failed := s.failed(x); failed != nil {
			return false, failed
		}
		if x.Content {
			return true, nil
		}
	}
	return false, nil
}

// hasData reports whether an event is one: by the standard, one whose data is empty is not.
func hasData(e *sse.Event) bool { return e.HasData && len(bytes.TrimSpace(e.Data)) > 0 }

// failed reports whether an event ends the answer as a failure. Endpoints whose answers may be anything may send anything.
func (s *stream) failed(x openai.Event) error {
	switch {
	case x.Err != nil:
		return eventError(x.Err)
	case x.Malformed && !s.expect.Endpoint.AnyAnswer:
		return ErrMalformed
	}
	return nil
}

// eventError copies the value, which lies in a buffer that is used again.
func eventError(value []byte) error { return &EventError{Value: bytes.Clone(value)} }

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return fmt.Errorf("reading the answer: %w", err)
}
