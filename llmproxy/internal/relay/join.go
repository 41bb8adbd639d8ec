package relay

import (
	"errors"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// join reads a stream to its end and joins its events into the whole answer, for a client that did not ask for a stream. Begun are events
// that have already been read.
func (s *streamAnswer) join(begun ...[]byte) ([]byte, error) {
	joiner := openai.NewJoiner(s.expect.Endpoint)
	s.expect.HideUsage = false
	defer func(name bool) { s.expect.NameReasoning = name }(s.expect.NameReasoning)
	s.expect.NameReasoning = false // only in the whole answer
	var ended error
	for !s.done {
		var batch []byte
		if len(begun) > 0 {
			batch, begun = begun[0], begun[1:]
		} else if ended == nil {
			batch, ended = s.next()
		} else if !s.complete() {
			return nil, incomplete(ended)
		} else {
			break
		}
		switch err := s.addTo(joiner, batch); {
		case errors.Is(err, ErrMalformed) && s.complete():
			ended = err
		case err != nil:
			return nil, err
		}
	}
	s.res.Body.Close() // nothing is left to read, whatever the upstream does with its connection
	whole, ok := joiner.Answer()
	if !ok {
		return nil, ErrUnexpectedStream
	}
	return whole, nil
}

// addTo adds the events of one read to a joiner.
func (s *streamAnswer) addTo(joiner *openai.Joiner, batch []byte) error {
	for len(batch) > 0 {
		var event sse.Event
		event, batch = sse.Cut(batch)
		keep, err := s.inspect(&event)
		switch {
		case err != nil:
			return err
		case keep && event.HasData && !joiner.Add(event.Name, event.Data):
			return ErrUnexpectedStream
		}
		if s.joined += int64(len(event.Data)); !s.memory.fits(s.joined) {
			return memory.ErrUsedUp
		}
	}
	return nil
}

// Join returns the whole answer that the events of a complete stream join to. It returns false if that would lose a part of them.
func Join(e *openai.Endpoint, events []byte) ([]byte, bool) {
	joiner := openai.NewJoiner(e)
	for len(events) > 0 {
		var event sse.Event
		event, events = sse.Cut(events)
		if hasData(&event) && !joiner.Add(event.Name, event.Data) {
			return nil, false
		}
	}
	return joiner.Answer()
}

// Split converts a whole answer into the events of a stream and visits each, the end included. Usage means that it is the event that
// only stream_options.include_usage asks for. It returns false if the answer cannot be converted; events that were visited before that
// must be discarded. They are valid only during the visit.
func Split(e *openai.Endpoint, whole []byte, visit func(event []byte, usage bool)) bool {
	var event []byte
	ok := openai.SplitAnswer(e, whole, func(name string, data []byte, usage bool) {
		event = event[:0]
		if name == "" {
			event = sse.AppendData(event, data)
		} else {
			event = sse.AppendEvent(event, name, data)
		}
		visit(event, usage)
	})
	if ok && e.Framing == openai.Chunks {
		visit(doneEvent, false)
	}
	return ok
}
