package relay

import (
	"errors"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A split answer came whole although a stream was asked for, from a server that cannot stream. Its client reads events only, and
// would find none, which looks like an answer of no words.
type split struct {
	*whole
	expect Expect
	events []byte
}

// ErrNoStream says that the upstream did not stream, and that no stream can be made of what it answered.
var ErrNoStream = errors.New("the upstream answered no stream, and none can be made of its answer")

func holdSplit(res *http.Response, expect Expect) (Answer, error) {
	held, err := holdWhole(res, expect)
	if err != nil {
		return nil, err
	}
	a := &split{whole: held.(*whole), expect: expect}
	if !a.all || expect.Endpoint.Framing != openai.Chunks || !a.cut() {
		a.release()
		return nil, ErrNoStream
	}
	return a, nil
}

// cut makes the events.
func (a *split) cut() bool {
	ok := openai.Split(a.head.Bytes(), func(data []byte, usage bool) {
		if usage && a.expect.HideUsage {
			return
		}
		a.events = sse.AppendData(a.events, data)
		a.meter.Events++
	})
	a.events = append(a.events, doneEvent...)
	a.meter.Events++
	return ok
}

// Streams implements Answer.
func (a *split) Streams() bool { return true }

// Send implements Answer.
func (a *split) Send(w Client, begun bool) error {
	if !begun {
		StreamHeader(w.Header())
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.Write(a.events)
	a.meter.Bytes += int64(n)
	if err != nil {
		return &ClientError{err}
	}
	return nil
}
