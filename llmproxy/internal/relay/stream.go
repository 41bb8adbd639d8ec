package relay

import (
	"errors"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// maxHeld bounds what is kept in memory of an answer before it is committed to.
const maxHeld = 1 << 20

// A stream is an answer of server-sent events.
type stream struct {
	res    *http.Response
	expect Expect
	events *sse.Reader
	held   []byte // events before the read that brought the first content
	batch  []byte // the read that brought it; valid until the next
	atEnd  error  // what that read ended with
	meter  Meter

	finished int  // choices that finished
	done     bool // [DONE] was seen
}

// Streams implements Answer.
func (s *stream) Streams() bool { return true }

// Send implements Answer.
func (s *stream) Send(w Client, begun bool) error {
	if !begun {
		h := w.Header()
		copyHeader(h, s.res.Header)
		streamHeader(h)
		w.WriteHeader(http.StatusOK)
	}
	if err := s.pass(w, s.held); err != nil {
		return err
	}
	s.held = nil
	batch, err := s.batch, s.atEnd
	for {
		events := s.meter.Events
		switch passErr := s.pass(w, batch); {
		case errors.Is(passErr, ErrMalformed):
			return s.finish(w, passErr)
		case passErr != nil:
			return passErr
		}
		if err != nil {
			return s.finish(w, err)
		}
		if s.expect.Progress != nil {
			s.expect.Progress.Read(s.meter.Events > events)
		}
		batch, err = s.next()
	}
}

// next reads whole events. Of an event that was cut nothing reaches the client, but for a [DONE] that lacks only its blank
// line.
func (s *stream) next() ([]byte, error) {
	batch, err := s.events.Next()
	if err != nil && len(batch) > 0 {
		if rest, _ := sse.Cut(batch); string(rest.Data) == "[DONE]" {
			return doneEvent, err
		}
		return nil, err
	}
	return batch, err
}

// pass writes the events of one read with one Write and one Flush: a Write for each costs 1.8 times as much over HTTP/2
// (docs: performance). What must not reach the client is cut out.
func (s *stream) pass(w Client, batch []byte) error {
	from, at := 0, 0
	for at < len(batch) {
		event, _ := sse.Cut(batch[at:])
		next := at + len(event.Raw)
		keep, failed := s.inspect(&event)
		if !keep {
			if err := s.write(w, batch[from:at]); err != nil {
				return err
			}
			from = next
		}
		if failed != nil {
			flush(w)
			return failed
		}
		at = next
	}
	if err := s.write(w, batch[from:]); err != nil {
		return err
	}
	return flush(w)
}

// inspect takes note of an event, and reports whether it goes to the client.
func (s *stream) inspect(e *sse.Event) (keep bool, err error) {
	if e.ErrorField != nil {
		return false, eventError(e.ErrorField)
	}
	if !hasData(e) {
		// An event without data, such as a bare `retry:` or `event: ping`, makes openai-python raise a JSONDecodeError and
		// openai-node a SyntaxError. All SDKs skip comments.
		return e.OnlyComments, nil
	}
	if s.done {
		return false, nil
	}
	x := s.expect.Endpoint.Framing.Next(e.Name, e.Data)
	if failed := s.failed(x); failed != nil {
		return false, failed
	}
	if x.HasUsage {
		s.meter.Usage, s.meter.HasUsage = x.Usage, true
	}
	s.finished += x.Finishes
	s.done = s.done || x.Done
	if x.UsageOnly && s.expect.HideUsage {
		return false, nil
	}
	if s.expect.Endpoint.Texts {
		s.meter.Text.Add(x.Text)
	}
	s.meter.Events++
	return true, nil
}

func (s *stream) write(w io.Writer, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := w.Write(p)
	s.meter.Bytes += int64(n)
	if err != nil {
		return &ClientError{err}
	}
	return nil
}

func flush(w Client) error {
	if err := w.Flush(); err != nil {
		return &ClientError{err}
	}
	return nil
}

var doneEvent = sse.AppendData(nil, []byte("[DONE]"))

// finish judges the end of the stream. A finish reason without [DONE] is complete and gets it.
func (s *stream) finish(w Client, err error) error {
	complete := s.finished > 0 && s.finished >= s.expect.Choices
	switch {
	case s.done:
		return nil
	case s.expect.Endpoint.Framing == openai.Typed && complete:
		return nil
	case complete:
		if err := s.write(w, doneEvent); err != nil {
			return err
		}
		return flush(w)
	}
	return ended(err)
}

// Meter implements Answer.
func (s *stream) Meter() Meter { return s.meter }

// Close implements Answer.
func (s *stream) Close() {
	s.events.Close()
	s.res.Body.Close()
}
