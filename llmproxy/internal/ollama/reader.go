package ollama

import (
	"bytes"
	"io"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Reader reads lines and returns what they become: events, for the relay reads nothing else.
type Reader struct {
	src    io.ReadCloser
	become func(b, line []byte) []byte

	read    []byte // reused
	part    []byte // of a line whose end was not read yet
	events  []byte // reused
	pending []byte // the part of the events that was not returned yet
	err     error
}

// NewReader returns a reader of a body. Become appends what a line, without its end, becomes. Empty lines are skipped.
func NewReader(body io.ReadCloser, become func(b, line []byte) []byte) *Reader {
	return &Reader{src: body, become: become, read: make([]byte, 4<<10)}
}

// Frame appends a line as the data of an event. It is what lines become that reach the client as they are.
func Frame(b, line []byte) []byte { return sse.AppendData(b, line) }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.pending) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.pending) == 0 {
		return 0, r.err
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

// fill reads once.
func (r *Reader) fill() {
	n, err := r.src.Read(r.read)
	r.err = err
	r.events = r.events[:0]
	for rest := r.read[:n]; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			if r.part = append(r.part, rest...); len(r.part) > sse.MaxEvent {
				r.err = sse.ErrTooLong
			}
			break
		}
		line := rest[:i]
		if len(r.part) > 0 {
			r.part = append(r.part, line...)
			line = r.part
		}
		r.line(line)
		r.part, rest = r.part[:0], rest[i+1:]
	}
	if err == io.EOF { // the last line may lack its end
		r.line(r.part)
		r.part = r.part[:0]
	}
	r.pending = r.events
}

func (r *Reader) line(line []byte) {
	if line = bytes.TrimSpace(line); len(line) > 0 {
		r.events = r.become(r.events, line)
	}
}

// Close implements io.Closer.
func (r *Reader) Close() error { return r.src.Close() }
