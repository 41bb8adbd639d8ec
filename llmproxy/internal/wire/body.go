package wire

import "io"

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
