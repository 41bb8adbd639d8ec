package sse

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// MaxEvent is the usual maximum size of an event: an image takes several MB.
const MaxEvent = 16 << 20

// ErrTooLong means that an event was larger than the reader's maximum.
var ErrTooLong = errors.New("event longer than allowed")

const (
	// startSize is the size of the buffer while little arrives at a time.
	startSize = 4 << 10
	// wideSize is the size for streams that arrive faster than they are passed on: larger batches need fewer system calls.
	wideSize = 32 << 10
	// maxEmptyReads is how often in a row a source may return neither bytes nor an error, as in bufio.
	maxEmptyReads = 100
)

var (
	buffers = sync.Pool{New: func() any { return new([startSize]byte) }}
	wides   = sync.Pool{New: func() any { return new([wideSize]byte) }}
)

// A Reader splits a stream into batches of complete events. One goroutine at a time may use it.
type Reader struct {
	src    io.Reader
	max    int
	pooled *[startSize]byte
	wide   *[wideSize]byte // what buf is in, while that is the wide buffer
	buf    []byte
	read   int   // bytes of the last read
	err    error // the error that ended reading

	// Indexes of buf. Returned batches end at start, and what was read after them ends at end. The incomplete line starts at
	// line and has no line end before seen, so that every byte is examined only once, however long an event is.
	start, end, line, seen int

	begun   bool // the start of the stream was checked for a byte order mark
	afterCR bool // the byte before line is a CR: if an LF follows, it belongs to that
}

// NewReader returns a new Reader of events of at most max bytes.
func NewReader(r io.Reader, max int) *Reader {
	pooled := buffers.Get().(*[startSize]byte)
	return &Reader{src: r, max: max, pooled: pooled, buf: pooled[:]}
}

// Close returns the buffer to its pool; the batches of Next are invalid then. It may be called twice, and does not close the
// stream.
func (r *Reader) Close() {
	if r.pooled != nil {
		buffers.Put(r.pooled)
	}
	r.releaseWide()
	*r = Reader{err: io.ErrClosedPipe}
}

// Next returns the next batch: all complete events that one read brought, at least one, each with its blank line. It is valid
// until the next call. All batches together are the stream, byte for byte, except for a byte order mark.
//
// At a clean end the error is io.EOF. At an end inside an event, Next returns the rest with io.ErrUnexpectedEOF, and after another
// error of the stream the rest with that error. For an event that is too long it returns ErrTooLong.
func (r *Reader) Next() ([]byte, error) {
	for {
		if batch := r.scan(); batch != nil {
			return batch, nil
		}
		if r.end-r.start > r.max {
			r.start, r.end, r.line, r.seen, r.err = 0, 0, 0, 0, ErrTooLong
		}
		if r.err != nil {
			return r.rest()
		}
		r.fill()
	}
}

// Peek returns what was read and not returned yet, at least n bytes unless the stream ends before that or an event would be too
// long. It is valid until the next call.
func (r *Reader) Peek(n int) []byte {
	for r.end-r.start < n && r.end-r.start <= r.max && r.err == nil {
		r.fill()
	}
	return r.buf[r.start:r.end]
}

// scan examines what was read since the last call, and returns the complete events, or nil.
func (r *Reader) scan() []byte {
	if !r.skipMark() {
		return nil
	}
	whole := r.start
	for r.seen < r.end {
		i, n := lineEnd(r.buf[r.seen:r.end])
		blank := r.seen+i == r.line
		r.seen += i + n
		if n == 0 {
			break
		}
		if blank && r.afterCR && r.buf[r.line] == '\n' {
			blank = false // the second half of a CRLF that was split between two reads
		}
		r.line, r.afterCR = r.seen, r.buf[r.seen-1] == '\r' && r.seen == r.end
		if !blank {
			continue
		}
		if r.seen-whole > r.max {
			// The complete events before this one are still returned. The next call gets here again with this event alone.
			r.line, r.seen = whole, whole
			break
		}
		whole, r.afterCR = r.seen, false
	}
	if whole == r.start {
		return nil
	}
	batch := r.buf[r.start:whole]
	r.start = whole
	return batch
}

// skipMark skips a byte order mark at the start of the stream. It reports false until enough was read to recognize one.
func (r *Reader) skipMark() bool {
	if r.begun {
		return true
	}
	const mark = "\xEF\xBB\xBF"
	got := r.buf[:min(r.end, len(mark))]
	if r.err == nil && len(got) < len(mark) && bytes.HasPrefix([]byte(mark), got) {
		return false
	}
	if string(got) == mark {
		r.start, r.line, r.seen = len(mark), len(mark), len(mark)
	}
	r.begun = true
	return true
}

func (r *Reader) rest() ([]byte, error) {
	rest := r.buf[r.start:r.end]
	r.start = r.end
	if len(rest) == 0 {
		return nil, r.err
	}
	if r.err == io.EOF {
		r.err = io.ErrUnexpectedEOF
	}
	return rest, r.err
}

// fill reads once, after making space in the buffer.
func (r *Reader) fill() {
	r.makeSpace()
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 || err != nil {
			r.read = n
			return
		}
	}
	r.err = io.ErrNoProgress
}

// makeSpace moves what was not returned yet to the front. It switches to the wide buffer when the last read nearly filled the
// small one (the framing of chunks takes space, too), since more may be waiting. It allocates a larger buffer when one event fills
// the buffer, and goes back to the small one when little is left and little was read.
func (r *Reader) makeSpace() {
	waiting := r.buf[r.start:r.end]
	switch {
	case len(r.buf) < wideSize && r.end > len(r.buf)*3/4:
		r.wide = wides.Get().(*[wideSize]byte)
		r.buf = r.wide[:]
	case len(waiting) == len(r.buf):
		// One byte over the bound shows that an event is too long.
		r.buf = make([]byte, max(min(2*len(r.buf), r.max+1), len(waiting)+1))
	case len(r.buf) > startSize && len(waiting)+r.read < startSize/2:
		r.buf = r.pooled[:]
	}
	r.end = copy(r.buf, waiting)
	if len(r.buf) != wideSize {
		r.releaseWide() // only after its bytes were copied
	}
	r.line -= r.start
	r.seen -= r.start
	r.start = 0
}

// releaseWide returns the wide buffer to its pool.
func (r *Reader) releaseWide() {
	if r.wide != nil {
		wides.Put(r.wide)
		r.wide = nil
	}
}
