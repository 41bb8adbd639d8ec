package relay

import (
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A convertedAnswer is JSON that is converted into the stream that the client asked for. The client reads only events, and would take
// JSON for an answer without words.
type convertedAnswer struct {
	*wholeAnswer
	endpoint  *openai.Endpoint
	hideUsage bool
}

// convert returns the answer as a stream. It releases one that cannot be converted.
func convert(whole *wholeAnswer, expect Expect) (Answer, error) {
	if !whole.complete && whole.head.Len() < maxConverted {
		whole.release()
		return nil, memory.ErrUsedUp
	}
	if !whole.complete || !Split(expect.Endpoint, whole.head.Bytes(), func([]byte, bool) {}) {
		whole.release()
		return nil, ErrNoStream
	}
	return &convertedAnswer{whole, expect.Endpoint, expect.HideUsage}, nil
}

// Streams implements Answer.
func (a *convertedAnswer) Streams() bool { return true }

// Send implements Answer. It makes the events again, because those of an image would take as much memory as the image.
func (a *convertedAnswer) Send(w Client, begun bool) error {
	if !begun {
		StreamHeader(w.Header())
		w.WriteHeader(http.StatusOK)
	}
	var batch []byte
	var failed error
	send := func() {
		if len(batch) > 0 && failed == nil {
			var n int
			n, failed = w.Write(batch)
			a.meter.Bytes += int64(n)
		}
		batch = batch[:0]
	}
	Split(a.endpoint, a.head.Bytes(), func(event []byte, usage bool) {
		if usage && a.hideUsage {
			return
		}
		a.meter.Events++
		if batch = append(batch, event...); len(batch) > chunkSize {
			send()
		}
	})
	if send(); failed != nil {
		return &ClientError{failed}
	}
	return nil
}
