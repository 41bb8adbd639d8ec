package reqbody

import (
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
)

// A Payload is JSON to send to an upstream: segments, most of which share the bytes of the client's request. It can be sent
// several times, also concurrently.
type Payload struct {
	segments [][]byte
	memory   *Memory
}

// NewPayload returns a payload of segments. Memory is what they lie in, if that is pooled; else nil.
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

// Open returns a new reader. It is an io.WriterTo as well, so that nothing is copied on the way to a connection. It fails once
// the memory has been released.
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
	at   int // within the first segment left
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

// A segmentWriter writes several segments with one system call. It keeps none of them.
type segmentWriter interface {
	WriteSegments([][]byte) (int64, error)
}

// WriteTo implements io.WriterTo with one Write for each segment, or one for all if the writer supports that.
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

// Close implements io.Closer. It changes nothing, because a transport may call it during a Read.
func (r *reader) Close() error { return nil }

// Memory is pooled in sizes that are powers of two, from minPooled to maxPooled: less costs next to nothing, and more is rare.
// Each size has a pool of its own, so that a small body does not hold the memory of a large one for as long as its stream lasts.
const (
	minPooled = 1 << 10
	maxPooled = 1 << 20
)

var pools [11]sync.Pool // of *[]byte

// A Memory is the pooled memory of one request's body. It returns to the pool when nobody holds it any more: neither its owner
// nor the reader of a payload that lies in it. A transport may continue to read after it has returned the response or an error,
// and nobody waits for it. Memory that is never released is left to the garbage collector.
type Memory struct {
	bytes   *[]byte
	pool    int
	holders atomic.Int64
}

// Make returns n bytes of any content, which the caller holds until it calls Release, once.
func (m *Memory) Make(n int) []byte {
	if n > maxPooled {
		return make([]byte, n)
	}
	m.pool = bits.Len(uint(max(n, minPooled)-1)) - bits.Len(uint(minPooled-1))
	m.holders.Store(1)
	if m.bytes, _ = pools[m.pool].Get().(*[]byte); m.bytes == nil {
		fresh := make([]byte, minPooled<<m.pool)
		m.bytes = &fresh
	}
	return (*m.bytes)[:n]
}

// hold adds a holder. It returns false if the memory has been released.
func (m *Memory) hold() bool {
	for {
		n := m.holders.Load()
		if n <= 0 {
			return false
		}
		if m.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release removes a holder. It does nothing if Make returned memory that is not pooled.
func (m *Memory) Release() {
	if m.bytes == nil || m.holders.Add(-1) != 0 {
		return
	}
	pools[m.pool].Put(m.bytes)
}

// errReleased is what a transport gets that reads a body after the request has ended.
var errReleased = errors.New("the request has ended and its body was released")

// A holdingReader holds the memory from Open to Close, and during each read, because HTTP/2's transport closes while it reads.
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

// A releasedReader is a body that was opened too late.
type releasedReader struct{}

// Read implements io.Reader.
func (releasedReader) Read([]byte) (int, error) { return 0, errReleased }

// Close implements io.Closer.
func (releasedReader) Close() error { return nil }
