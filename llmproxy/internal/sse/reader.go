package sse

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// MaxEvent is the usual bound of one event: images come as a line of several MB.
const MaxEvent = 16 << 20

// ErrTooLong says that an event was longer than the reader's bound.
var ErrTooLong = errors.New("event longer than allowed")

const (
	// startSize is what a stream costs in memory while little comes at a time.
	startSize = 4 << 10
	// wideSize is for streams that come faster than they are passed on: the more a batch holds, the fewer calls of the system.
	wideSize = 32 << 10
	// maxEmptyReads is how often in a row a source may give neither bytes nor an error, as in bufio.
	maxEmptyReads = 100
)

var (
	buffers = sync.Pool{New: func() any { return new([startSize]byte) }}
	wides   = sync.Pool{New: func() any { return new([wideSize]byte) }}
)

// A Reader cuts a stream into batches of whole events. One goroutine at a time may use it.
type Reader struct {
	src    io.Reader
	max    int
	pooled *[startSize]byte
	wide   *[wideSize]byte // nil while it is not needed
	buf    []byte
	read   int   // bytes that the last read brought
	err    error // what reading ended with

	// Places in buf: the batches given out end at start; from there to end lies what was read; the line that is not
	// complete begins at line, and up to seen it holds no line end. So every byte is looked at once, however long an event.
	start, end, line, seen int

	begun   bool // the byte order mark was looked for
	afterCR bool // the byte before line is a CR: an LF that follows belongs to it
}

// NewReader reads events of at most max bytes from r.
func NewReader(r io.Reader, max int) *Reader {
	pooled := buffers.Get().(*[startSize]byte)
	return &Reader{src: r, max: max, pooled: pooled, buf: pooled[:]}
}

// Close gives the buffer back, and with it what Next gave out. It may be called twice; it does not close the stream.
func (r *Reader) Close() {
	if r.pooled != nil {
		buffers.Put(r.pooled)
	}
	r.narrow()
	*r = Reader{err: io.ErrClosedPipe}
}

// Next gives all whole events that one read brought, at least one, each with its blank line; they lie one after the other
// and are valid until the next call. Together all batches are the stream, byte for byte, but for a byte order mark.
//
// At a clean end the error is io.EOF. At an end inside an event it gives the rest with io.ErrUnexpectedEOF, and after
// another error of the stream the rest with that error. An event that is too long ends with ErrTooLong.
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

// scan looks at what no call before has looked at, and gives what is whole now, or nil.
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
			blank = false // the second half of a CRLF that two reads brought
		}
		r.line, r.afterCR = r.seen, r.buf[r.seen-1] == '\r' && r.seen == r.end
		if !blank {
			continue
		}
		if r.seen-whole > r.max {
			// What was whole before still goes out; the next call comes by here again with nothing but this event.
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

// skipMark skips a byte order mark at the start of the stream. It is false while it cannot tell yet.
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

// fill reads once, making room first.
func (r *Reader) fill() {
	r.makeRoom()
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

// makeRoom moves what is not given out yet to the front. The buffer widens when a read all but filled it (the framing of
// chunks took room too), since more may be waiting behind; it grows when one event fills it, and is the small one again when
// little waits and little came.
func (r *Reader) makeRoom() {
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
		r.narrow() // only now that nothing waits in it any more
	}
	r.line -= r.start
	r.seen -= r.start
	r.start = 0
}

// narrow gives the wide buffer back.
func (r *Reader) narrow() {
	if r.wide != nil {
		wides.Put(r.wide)
		r.wide = nil
	}
}
