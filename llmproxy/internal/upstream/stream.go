package upstream

import (
	"bufio"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// translateStream replaces an answer, whose body begins with what was peeked at, by one whose events become what the function appends.
func translateStream(res *http.Response, start *bufio.Reader, become func(b []byte, e *sse.Event) []byte) {
	res.Body = &translatedStream{body: res.Body, events: sse.NewReader(start, sse.MaxEvent), become: become}
	res.ContentLength = -1
}

// A translatedStream is the body of a stream of which every event is translated.
type translatedStream struct {
	body    io.ReadCloser
	events  *sse.Reader
	become  func(b []byte, e *sse.Event) []byte
	batch   []byte // translated events, reused
	pending []byte // the part of it that was not read yet
	err     error
}

// Read implements io.Reader.
func (r *translatedStream) Read(p []byte) (int, error) {
	for len(r.pending) == 0 && r.err == nil {
		var batch []byte
		batch, r.err = r.events.Next()
		r.batch = r.batch[:0]
		for len(batch) > 0 {
			var e sse.Event
			e, batch = sse.Cut(batch)
			r.batch = r.become(r.batch, &e)
		}
		r.pending = r.batch
	}
	if len(r.pending) == 0 {
		return 0, r.err
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *translatedStream) Close() error {
	r.events.Close()
	return r.body.Close()
}
