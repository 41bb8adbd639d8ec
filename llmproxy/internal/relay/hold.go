package relay

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// Hold reads a successful response until it can be committed. If it cannot be, Hold closes the response and returns why.
func Hold(res *http.Response, expect Expect) (Answer, error) {
	answer, err := hold(res, expect)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	return answer, nil
}

func hold(res *http.Response, expect Expect) (Answer, error) {
	label, anyAnswer := labeled(res.Header), expect.Endpoint.AnyAnswer
	switch {
	case label == eventForm || expect.Stream || anyAnswer && label == jsonForm:
		return holdPeeked(res, expect, label)
	case anyAnswer:
		return holdBytes(res, expect)
	}
	return holdWhole(res, expect)
}

// holdPeeked holds an answer whose first bytes must be known.
func holdPeeked(res *http.Response, expect Expect, label form) (Answer, error) {
	events := sse.NewReader(res.Body, sse.MaxEvent)
	actual, start := peekForm(events)
	if actual == eventForm || actual == otherForm && label == eventForm {
		return holdStream(res, expect, events)
	}
	unread(res, events.Peek(0), start)
	events.Close()
	switch {
	case expect.Endpoint.AnyAnswer && (actual == otherForm || label == otherForm):
		return holdBytes(res, expect)
	case actual == otherForm && label == otherForm:
		return nil, &TypeError{res.Header.Get("Content-Type")}
	case actual == otherForm:
		return nil, ErrNotJSON
	case expect.Stream && expect.Endpoint.Streams():
		return holdConverted(res, expect)
	}
	return holdWhole(res, expect)
}

// holdStream holds a stream. If the client did not ask for one, or if its events are no parts of an answer, it reads and converts all
// of it.
func holdStream(res *http.Response, expect Expect, events *sse.Reader) (Answer, error) {
	s := newStream(res, expect, events)
	if !expect.Stream && !expect.Endpoint.AnyAnswer {
		defer s.release()
		return holdJoined(s)
	}
	message, err := s.hold()
	if err == nil && message == nil {
		return s, nil
	}
	defer s.release()
	if err != nil {
		return nil, err
	}
	// A server that cannot stream sent its message in one event. Clients read only parts.
	joined, err := holdJoined(s, s.held, bytes.Clone(message))
	if err != nil {
		return nil, err
	}
	return convert(joined, expect)
}

// holdJoined reads a stream to its end and joins it into a whole answer. Begun are events that have already been read.
func holdJoined(s *streamAnswer, begun ...[]byte) (*wholeAnswer, error) {
	whole, err := s.join(begun...)
	if err != nil {
		return nil, err
	}
	a := newWhole(s.res, s.expect)
	a.head.Write(whole)
	a.complete = true
	return a.prepared()
}

// holdWhole holds JSON. If it turns out to be a stream, that is joined.
func holdWhole(res *http.Response, expect Expect) (Answer, error) {
	a, limit := newWhole(res, expect), int64(maxHeld)
	switch {
	case expect.Whole:
		limit = maxConverted
	case res.ContentLength > maxHeld:
		limit = freeHolding // more would cost time and memory, and not show either whether the answer is complete
	}
	if err := a.read(limit); err != nil {
		a.release()
		return nil, err
	}
	if !beginsAsJSON(a.head.Bytes()) {
		defer a.release()
		unread(res, a.head.Bytes(), 0)
		return holdPeeked(res, expect, labeled(res.Header))
	}
	if expect.Whole && !a.complete {
		defer a.release()
		if a.head.Len() < maxConverted {
			return nil, memory.ErrUsedUp
		}
		return nil, sse.ErrTooLong
	}
	return a.prepared()
}

// A TypeError means that an answer is of a type that the endpoint does not have.
type TypeError struct{ ContentType string }

// Error implements error.
func (e *TypeError) Error() string {
	return fmt.Sprintf("the upstream answered %q where JSON or events were expected", e.ContentType)
}

// holdConverted holds JSON that is converted into a stream.
func holdConverted(res *http.Response, expect Expect) (Answer, error) {
	a := newWhole(res, expect)
	if err := a.read(maxConverted); err != nil {
		a.release()
		return nil, err
	}
	a, err := a.prepared()
	if err != nil {
		return nil, err
	}
	return convert(a, expect)
}
