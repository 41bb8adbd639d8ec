package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A streamAnswer consists of server-sent events.
type streamAnswer struct {
	res      *http.Response
	expect   Expect
	reader   openai.EventReader
	events   *sse.Reader
	memory   holding
	held     []byte // events before the read that returned the first content
	batch    []byte // what that read returned; valid until the next read
	batchErr error  // of that read
	meter    Meter
	instead  []byte // what the client gets in place of the event that was just inspected

	joined   int64  // bytes that were joined into a whole answer
	reason   []byte // of the last choice that has finished
	finished int    // number of choices that have finished
	done     bool   // the event that ends the answer has been seen: [DONE], or the last one that has a type
	ending   bool   // Progress knows that nothing more is needed
	contents int    // events with content in the last read
	splitEnd bool   // the last read ended with a CR, so that an LF at the start of the next one belongs to the same event
	keptLast bool   // the client got that event
	halfEnd  bool   // the last event ends with the first half of a line end
}

func newStream(res *http.Response, expect Expect, events *sse.Reader) *streamAnswer {
	s := &streamAnswer{res: res, expect: expect, reader: expect.Events, events: events, memory: holding{account: expect.Memory}}
	if s.reader == nil {
		s.reader = expect.Endpoint.Framing
	}
	return s
}

// hold reads events until one has content, and keeps those before it. If that one is a whole message instead of a part of one, hold
// returns what was read with it.
func (s *streamAnswer) hold() (message []byte, err error) {
	for {
		batch, err := s.next()
		first, failed := s.first(batch)
		switch {
		case failed != nil:
			return nil, failed
		case first.Whole && s.expect.Endpoint.Streams():
			return batch, nil
		case first.Content:
			s.batch, s.batchErr = batch, err
			return nil, nil
		case err != nil:
			return nil, incomplete(err)
		case first.Done:
			return nil, ErrIncomplete
		}
		if !s.canHold(batch) && !s.dropComments(&batch) {
			s.batch = batch // more cannot be held, but the answer may be good
			return nil, nil
		}
		s.held = append(s.held, batch...)
	}
}

// canHold reports whether the batch can be held, too.
func (s *streamAnswer) canHold(batch []byte) bool {
	n := int64(len(s.held) + len(batch))
	return n <= maxHeld && s.memory.fits(n)
}

// dropComments removes the comments from what is held and from the batch, and reports whether the rest can be held.
func (s *streamAnswer) dropComments(batch *[]byte) bool {
	s.held, *batch = withoutComments(s.held), withoutComments(*batch)
	return s.canHold(*batch)
}

// withoutComments returns the events that are more than comments. It reuses the memory.
func withoutComments(events []byte) []byte {
	kept := events[:0]
	for len(events) > 0 {
		var e sse.Event
		e, events = sse.Cut(events)
		if !e.OnlyComments {
			kept = append(kept, e.Raw...)
		}
	}
	return kept
}

// first returns the first of the events that has content or ends the stream. If there is an error before it, first returns that.
func (s *streamAnswer) first(batch []byte) (x openai.Event, err error) {
	for len(batch) > 0 {
		var e sse.Event
		e, batch = sse.Cut(batch)
		if e.ErrorField != nil {
			return openai.Event{}, eventError(e.ErrorField)
		}
		if !hasData(&e) {
			continue
		}
		if s.expect.Endpoint.IsResponses() && s.meter.Response.ID == "" {
			s.meter.Response.ReadHead(e.Data)
		}
		x := s.reader.First(e.Name, e.Data)
		if failed := s.failure(x); failed != nil {
			return openai.Event{}, failed
		}
		if x.Content || x.Done {
			return x, nil
		}
		if x.Opens && s.expect.Progress != nil {
			s.expect.Progress.Opened()
		}
	}
	return openai.Event{}, nil
}

// hasData reports whether an event has data. By the standard, an event whose data is empty is not one.
func hasData(e *sse.Event) bool { return e.HasData && len(bytes.TrimSpace(e.Data)) > 0 }

// failure returns the error for an event that ends the answer as a failure, or nil. If the endpoint allows any answer, events need
// not be JSON.
func (s *streamAnswer) failure(x openai.Event) error {
	switch {
	case x.Err != nil:
		return eventError(x.Err)
	case x.Malformed && !s.expect.Endpoint.AnyAnswer:
		return ErrMalformed
	}
	return nil
}

// eventError copies the value, because its buffer will be reused.
func eventError(value []byte) *EventError { return &EventError{Value: bytes.Clone(value)} }

// Streams implements Answer.
func (s *streamAnswer) Streams() bool { return true }

// Send implements Answer.
func (s *streamAnswer) Send(w Client, begun bool) error {
	if !begun {
		h := w.Header()
		copyHeader(h, s.res.Header)
		if labeled(s.res.Header) != eventForm {
			h["Content-Type"] = eventStream
		}
		disableBuffering(h)
		w.WriteHeader(http.StatusOK)
	}
	// The request and the headers take more memory than the rest, and the stream may stay open for minutes.
	*s.res = http.Response{Body: s.res.Body}
	if err := s.pass(w, s.held); err != nil { // it leaves together with the batch
		return err
	}
	s.held = nil
	s.memory.release()
	batch, err := s.batch, s.batchErr
	for {
		s.contents = 0
		switch relayErr := s.relay(w, batch); {
		case errors.Is(relayErr, ErrMalformed):
			return s.finish(w, relayErr)
		case relayErr != nil:
			return relayErr
		}
		if s.done {
			return s.end(w)
		}
		if err != nil {
			return s.finish(w, err)
		}
		if s.expect.Progress != nil {
			s.expect.Progress.Read(s.contents)
			if !s.ending && s.complete() {
				s.ending = true
				s.expect.Progress.Ending(finishGrace)
			}
		}
		batch, err = s.next()
	}
}

// end ends a stream whose last event has been sent.
func (s *streamAnswer) end(w Client) error {
	defer s.drain()
	if !s.halfEnd {
		return nil
	}
	if err := s.write(w, []byte{'\n'}); err != nil {
		return err
	}
	return flush(w)
}

// drain waits a moment for the end of the body, so that its connection can be used again. What comes until then means nothing.
func (s *streamAnswer) drain() {
	if s.expect.Progress == nil {
		return
	}
	s.expect.Progress.Ending(endGrace)
	for {
		if _, err := s.events.Next(); err != nil {
			return
		}
	}
}

// next reads complete events.
func (s *streamAnswer) next() ([]byte, error) {
	batch, err := s.events.Next()
	if err == nil || len(batch) == 0 {
		return batch, err
	}
	return s.ended(batch, err)
}

// ended drops an incomplete event at the end of the stream, unless that ends the answer and lacks only its blank line. It is a function of
// its own, because what next has on the stack stays there while a stream is open.
func (s *streamAnswer) ended(batch []byte, err error) ([]byte, error) {
	rest, _ := sse.Cut(batch)
	last := s.reader.First(rest.Name, rest.Data)
	switch {
	case s.expect.Events == nil && last.Done:
		return doneEvent, err
	case last.Done, s.expect.Endpoint.IsResponses() && last.Terminal:
		return append(bytes.TrimRight(bytes.Clone(rest.Raw), "\r\n"), "\n\n"...), err
	}
	return nil, err
}

// relay sends the events of one read. It uses one Write and one Flush for all of them: a Write for each event costs 1.8 times as much over
// HTTP/2 (see docs/performance.md).
func (s *streamAnswer) relay(w Client, batch []byte) error {
	if err := s.pass(w, batch); err != nil {
		return err
	}
	return flush(w)
}

// pass writes events, without those that the client must not get.
func (s *streamAnswer) pass(w Client, batch []byte) error {
	from, at := 0, 0
	for at < len(batch) {
		event, _ := sse.Cut(batch[at:])
		next := at + len(event.Raw)
		keep, failed := s.keptLast, error(nil)
		if at > 0 || !s.splitEnd || string(event.Raw) != "\n" {
			keep, failed = s.inspect(&event)
		}
		if s.keptLast = keep; keep {
			at = next
		}
		if !keep || failed != nil {
			if err := s.write(w, batch[from:at]); err != nil {
				return err
			}
			if err := s.write(w, s.instead); err != nil {
				return err
			}
			from, s.instead = next, nil
		}
		if failed != nil {
			flush(w)
			return failed
		}
		at = next
	}
	s.splitEnd = bytes.HasSuffix(batch, []byte("\r"))
	return s.write(w, batch[from:])
}

// inspect updates the meter and reports whether the client gets the event.
func (s *streamAnswer) inspect(e *sse.Event) (keep bool, err error) {
	if s.done {
		return false, nil
	}
	if e.ErrorField != nil {
		return false, eventError(e.ErrorField)
	}
	if !hasData(e) {
		// All SDKs skip comments. An event without data, such as a bare `retry:` or `event: ping`, makes openai-python raise a
		// JSONDecodeError and openai-node a SyntaxError.
		return e.OnlyComments, nil
	}
	x := s.reader.Next(e.Name, e.Data)
	s.meter.read(&x)
	if failed := s.failure(x); failed != nil {
		return s.failedEvent(x, failed)
	}
	s.finished += x.Finishes
	if x.Reason != nil {
		s.reason = bytes.Clone(x.Reason)
	}
	if s.expect.Endpoint.Images {
		s.meter.Usage.Images = int64(s.finished) // each ends with an event of its own
	}
	s.done = x.Done || s.expect.Events == nil && s.expect.Endpoint.Framing == openai.Typed && s.complete()
	s.halfEnd = s.done && bytes.HasSuffix(e.Raw, []byte("\r")) // the rest of a CRLF may not have arrived
	if x.UsageOnly && s.expect.HideUsage {
		if rest, ok := openai.WithoutUsage(s.expect.Endpoint, e.Data, s.reason); ok {
			s.instead = sse.AppendData(nil, rest)
			s.meter.Events++
		}
		return false, nil
	}
	if s.expect.Endpoint.Texts {
		s.meter.Text.Add(x.Text)
	}
	s.meter.Events++
	if x.Text.Bytes > 0 || s.contents == 0 && s.hasContent(e) {
		s.contents++
	}
	if s.expect.NameReasoning {
		if named, ok := openai.NameReasoning(e.Data); ok {
			s.instead = sse.AppendData(nil, named)
			return false, nil
		}
	}
	return true, nil
}

// failedEvent returns what inspect does for an event that reports a failure. The gateway reports it in the client's dialect, unless the
// upstream ended the response as the Responses API does.
func (s *streamAnswer) failedEvent(x openai.Event, failed error) (keep bool, err error) {
	var event *EventError
	if !x.Terminal || !errors.As(failed, &event) {
		return false, failed
	}
	event.Sent = true
	s.meter.Events++
	return true, event
}

// maxHeartbeat is the size from which on an event is more than a sign of life.
const maxHeartbeat = 1 << 10

// hasContent reports whether an event without text is more than a sign of life. Some servers send events with nothing in them to keep
// a connection alive.
func (s *streamAnswer) hasContent(e *sse.Event) bool {
	if len(e.Data) > maxHeartbeat || s.expect.Endpoint.AnyAnswer {
		return true
	}
	x := s.reader.First(e.Name, e.Data)
	return x.Content || x.Opens
}

func (s *streamAnswer) write(w io.Writer, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := w.Write(p)
	s.meter.Bytes += int64(n)
	if err != nil {
		return &ClientError{err}
	}
	if s.expect.Endpoint.IsResponses() {
		s.meter.Response.Sent(p)
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

// complete reports whether all choices have finished.
func (s *streamAnswer) complete() bool { return s.finished > 0 && s.finished >= s.expect.Choices }

// finish returns nil if the stream was complete when reading ended with err. It adds the [DONE] to a complete stream that lacks it.
func (s *streamAnswer) finish(w Client, err error) error {
	if !s.complete() || s.expect.Events != nil {
		return incomplete(err)
	}
	if err := s.write(w, doneEvent); err != nil {
		return err
	}
	return flush(w)
}

// Meter implements Answer.
func (s *streamAnswer) Meter() Meter { return s.meter }

// Close implements Answer.
func (s *streamAnswer) Close() {
	s.release()
	s.res.Body.Close()
}

// release releases the memory of what was read.
func (s *streamAnswer) release() {
	s.events.Close()
	s.memory.release()
}
