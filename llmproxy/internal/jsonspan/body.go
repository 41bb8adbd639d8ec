package jsonspan

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
)

// A Body is a request's body in segments, most of which lie where they lay in the client's. It can be sent any number of
// times, several at once.
type Body struct {
	segments [][]byte
	memory   *Buffer // what the segments lie in; nil where that is not used again
}

// NewBody is a body of one segment.
func NewBody(b []byte) Body { return Body{segments: [][]byte{b}} }

// In gives the same body, whose readers hold the memory that it lies in.
func (b Body) In(memory *Buffer) Body {
	if memory != nil && memory.memory != nil {
		b.memory = memory
	}
	return b
}

// Bytes returns the body as one text.
func (b Body) Bytes() []byte { return bytes.Join(b.segments, nil) }

// Len is its length in bytes.
func (b Body) Len() int64 {
	var n int64
	for _, s := range b.segments {
		n += int64(len(s))
	}
	return n
}

// Open gives a reader of its own over the body. It is an io.WriterTo too, so that nothing is copied on the way to a
// connection.
func (b Body) Open() io.ReadCloser {
	switch {
	case b.memory == nil:
		return &bodyReader{left: b.segments}
	case !b.memory.hold():
		return goneReader{}
	}
	return &heldReader{bodyReader: bodyReader{left: b.segments}, memory: b.memory}
}

type bodyReader struct {
	left [][]byte
	at   int // within the first segment left
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (n int, err error) {
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

// A segmentWriter writes many segments with one call of the system. It keeps none of them.
type segmentWriter interface {
	WriteSegments([][]byte) (int64, error)
}

// WriteTo implements io.WriterTo with one Write for each segment, or with one for all where the writer can.
func (r *bodyReader) WriteTo(w io.Writer) (n int64, err error) {
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

// Close implements io.Closer. It changes nothing, since a transport may close while it still reads.
func (r *bodyReader) Close() error { return nil }

// The sizes of memory that is used again are the powers of two in between, both included: what is smaller costs next to
// nothing, and what is larger is rare. Of their own size each, so that a small body does not hold a large one's memory for as
// long as its stream lasts.
const (
	leastReused = 1 << 10
	mostReused  = 1 << 20
)

var reused [11]sync.Pool // of *[]byte

// A Buffer is the memory of one request's body, which serves another request when nobody holds it any more: neither who
// made it nor a reader of a Body that lies in it. A transport may read on when it has given its answer, or has given up, and
// nobody waits for it. Memory that is never let go of is left to the collector.
type Buffer struct {
	memory  *[]byte
	class   int
	holders atomic.Int64
}

// Make gives n bytes that hold anything. They are the caller's until it lets go of them, once.
func (b *Buffer) Make(n int) []byte {
	if n > mostReused {
		return make([]byte, n)
	}
	b.class = bits.Len(uint(max(n, leastReused)-1)) - bits.Len(uint(leastReused-1))
	b.holders.Store(1)
	if b.memory, _ = reused[b.class].Get().(*[]byte); b.memory == nil {
		fresh := make([]byte, leastReused<<b.class)
		b.memory = &fresh
	}
	return (*b.memory)[:n]
}

// hold keeps the memory where it is until Release; false if it has gone.
func (b *Buffer) hold() bool {
	for {
		n := b.holders.Load()
		if n <= 0 {
			return false
		}
		if b.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release lets go of the memory. It does nothing where Make gave none that is used again.
func (b *Buffer) Release() {
	if b.memory == nil || b.holders.Add(-1) != 0 {
		return
	}
	reused[b.class].Put(b.memory)
}

// errGone is what a transport gets that reads a body behind its request's end.
var errGone = errors.New("the request is over, and its body has gone")

// A held reader holds its memory from Open to Close, and during a read: HTTP/2's transport closes while it reads.
type heldReader struct {
	bodyReader
	memory *Buffer
	closed atomic.Bool
}

// Read implements io.Reader.
func (r *heldReader) Read(p []byte) (int, error) {
	if !r.memory.hold() {
		return 0, errGone
	}
	defer r.memory.Release()
	return r.bodyReader.Read(p)
}

// WriteTo implements io.WriterTo.
func (r *heldReader) WriteTo(w io.Writer) (int64, error) {
	if !r.memory.hold() {
		return 0, errGone
	}
	defer r.memory.Release()
	return r.bodyReader.WriteTo(w)
}

// Close implements io.Closer. It may be called more than once.
func (r *heldReader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.memory.Release()
	}
	return nil
}

// goneReader is a body that is opened too late.
type goneReader struct{}

// Read implements io.Reader.
func (goneReader) Read([]byte) (int, error) { return 0, errGone }

// Close implements io.Closer.
func (goneReader) Close() error { return nil }
