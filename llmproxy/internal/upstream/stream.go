package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// translateStream replaces an answer, whose body begins with what was peeked at, by one whose events become what the function appends.
// When the upstream closes the stream, end appends what it left out; it may be nil.
func translateStream(res *http.Response, start *bufio.Reader, become func(b []byte, e *sse.Event) []byte, end func(b []byte) []byte) {
	res.Body = &translatedStream{body: res.Body, events: sse.NewReader(start, sse.MaxEvent), become: become, end: end}
	res.ContentLength = -1
}

// A translatedStream is the body of a stream whose events are translated one by one.
type translatedStream struct {
	body    io.ReadCloser
	events  *sse.Reader
	become  func(b []byte, e *sse.Event) []byte
	end     func(b []byte) []byte // appends what the upstream left out when it closed the stream; may be nil
	batch   []byte                // translated events, reused
	pending []byte                // the part of it that was not read yet
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
			if e, batch = sse.Cut(batch); r.err == nil || !breaksOff(&e) {
				r.batch = r.become(r.batch, &e)
			}
		}
		if r.err == io.EOF && r.end != nil {
			r.batch = r.end(r.batch)
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

// breaksOff reports whether the last event of a stream is incomplete. Only a blank line may be missing.
func breaksOff(e *sse.Event) bool {
	return e.HasData && !bytes.HasSuffix(e.Raw, []byte("\n\n")) && !bytes.HasSuffix(e.Raw, []byte("\r\r")) && !bytes.HasSuffix(e.Raw, []byte("\r\n\r\n")) &&
		!openai.IsObject(e.Data) && string(bytes.TrimSpace(e.Data)) != "[DONE]"
}

// Close implements io.Closer.
func (r *translatedStream) Close() error {
	r.events.Close()
	return r.body.Close()
}
