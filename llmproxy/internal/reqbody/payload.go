package reqbody

import (
	"errors"
	"io"
	"sync/atomic"
)

// A Payload is JSON to send to an upstream. It consists of segments, most of which share the memory of the client's request. It can be
// sent several times, even concurrently.
type Payload struct {
	segments [][]byte
	memory   *Memory
}

// NewPayload returns a new Payload. Memory is the pooled memory that holds the segments; nil if they are not pooled.
func NewPayload(segments [][]byte, memory *Memory) Payload {
	if memory != nil && memory.bytes == nil {
		memory = nil
	}
	return Payload{segments, memory}
}

// Len returns the length in bytes.
func (p Payload) Len() int64 {
	var n int64
	for _, s := range p.segments {
		n += int64(len(s))
	}
	return n
}

// Open returns a new reader, which is also an io.WriterTo, so that the segments can be written to a connection without copying. The
// reader fails once the memory has been released.
func (p Payload) Open() io.ReadCloser {
	switch {
	case p.memory == nil:
		return &reader{left: p.segments}
	case !p.memory.hold():
		return releasedReader{}
	}
	return &holdingReader{reader: reader{left: p.segments}, memory: p.memory}
}

type reader struct {
	left [][]byte
	at   int // position in left[0]
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	for len(r.left) > 0 && n < len(p) {
		copied := copy(p[n:], r.left[0][r.at:])
		n += copied
		r.at += copied
		if r.at == len(r.left[0]) {
			r.left, r.at = r.left[1:], 0
		}
	}
	if n == 0 && len(r.left) == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// A segmentWriter writes several segments with one system call. It must not retain them.
type segmentWriter interface {
	WriteSegments([][]byte) (int64, error)
}

// WriteTo implements io.WriterTo. It writes all segments at once if the writer supports that, else one after the other.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	if all, ok := w.(segmentWriter); ok && r.at == 0 {
		left := r.left
		r.left = nil
		return all.WriteSegments(left)
	}
	for len(r.left) > 0 {
		written, err := w.Write(r.left[0][r.at:])
		n += int64(written)
		if err != nil {
			r.at += written
			return n, err
		}
		r.left, r.at = r.left[1:], 0
	}
	return n, nil
}

// Close implements io.Closer. It must not change anything, because a transport may call it during a Read.
func (r *reader) Close() error { return nil }

// errReleased is returned to a transport that reads a body after the request has ended.
var errReleased = errors.New("the request has ended and its body was released")

// A holdingReader holds the memory from Open to Close. It also holds it during each read, because an HTTP/2 transport may close the body
// while it reads from it.
type holdingReader struct {
	reader
	memory *Memory
	closed atomic.Bool
}

// Read implements io.Reader.
func (r *holdingReader) Read(p []byte) (int, error) {
	if !r.memory.hold() {
		return 0, errReleased
	}
	defer r.memory.Release()
	return r.reader.Read(p)
}

// WriteTo implements io.WriterTo.
func (r *holdingReader) WriteTo(w io.Writer) (int64, error) {
	if !r.memory.hold() {
		return 0, errReleased
	}
	defer r.memory.Release()
	return r.reader.WriteTo(w)
}

// Close implements io.Closer. It may be called more than once.
func (r *holdingReader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.memory.Release()
	}
	return nil
}

// A releasedReader is the reader of a body that was opened after its memory had been released.
type releasedReader struct{}

// Read implements io.Reader.
func (releasedReader) Read([]byte) (int, error) { return 0, errReleased }

// Close implements io.Closer.
func (releasedReader) Close() error { return nil }
