package relay

import (
	"net/http"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// A Heartbeat keeps the client of a stream, and whatever stands between, from giving up while there is nothing to send: by
// comments, which every SDK skips. With the first one the status is 200, so that what goes wrong afterwards can only be told
// as an event. The zero Heartbeat is ready.
type Heartbeat struct {
	mu    sync.Mutex
	last  time.Time
	began bool
	over  bool
	sent  int64
}

var comment = []byte(": ping\n\n")

var eventStream = []string{"text/event-stream"}

// Beat sends a comment, unless the heartbeat was stopped.
func (h *Heartbeat) Beat(w http.ResponseWriter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return
	}
	if !h.began {
		h.began = true
		w.Header()["Content-Type"] = eventStream
		streamHeader(w.Header())
		w.WriteHeader(http.StatusOK)
	}
	h.last = time.Now()
	h.write(w, comment)
}

func (h *Heartbeat) write(w http.ResponseWriter, p []byte) {
	n, err := w.Write(p)
	h.sent += int64(n)
	if err == nil {
		_ = http.NewResponseController(w).Flush() // a client that left is noticed elsewhere
	}
}

// Last is when the last comment was sent; zero if none was.
func (h *Heartbeat) Last() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Stop ends the heartbeat, and tells whether it ever began. Only then may the caller write to the client.
func (h *Heartbeat) Stop() (began bool) {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	return h.began
}

// Fail tells the client of an error in a stream that consists of comments alone, and how many bytes were sent in all.
func (h *Heartbeat) Fail(w http.ResponseWriter, f wire.Framing, e *wire.Error) (sent int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.write(w, errorEvent(f, e))
	return h.sent
}

// errorEvent is an error as the streams of a framing tell it.
func errorEvent(f wire.Framing, e *wire.Error) []byte {
	if f == wire.Typed {
		return sse.AppendEvent(nil, "error", e.AppendTypedJSON(nil))
	}
	return sse.AppendData(nil, e.AppendJSON(nil))
}

// streamHeader is what stands in the header of every stream. No-transform keeps Caddy's encode from holding back and
// compressing events (caddy#6293); the other one is for an nginx in front.
func streamHeader(h http.Header) {
	h["Cache-Control"] = noTransform
	h["X-Accel-Buffering"] = noBuffering
}

// Streams tells whether an answer is a stream of events.
func Streams(a Answer) bool {
	switch a.(type) {
	case *stream, *split:
		return true
	}
	return false
}
