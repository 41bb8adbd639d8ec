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
	// maxEmptyReads is how often in a row a source may return neither bytes nor an error, as in bufio.
	maxEmptyReads = 100
	// smallReads is after how many small reads in a row a smaller pooled buffer is used.
	smallReads = 8
)

// sizes are the sizes of buffers. A stream of a few words at a time has the smallest one. Thousands of streams may wait at once: where the
// source can wait, they do so without a buffer. One that arrives faster than it is passed on gets the one for batches: larger batches need
// fewer system calls. The larger ones are only for events that fill it.
var sizes = [...]int{1 << 10, 4 << 10, 32 << 10, 256 << 10, 2 << 20}

// forBatches is the index of the largest buffers for more than one event.
const forBatches = 2

// pools have the buffers of each size.
var pools = [len(sizes)]sync.Pool{{New: newBuffer(0)}, {New: newBuffer(1)}, {New: newBuffer(2)}, {New: newBuffer(3)}, {New: newBuffer(4)}}

func newBuffer(level int) func() any {
	return func() any { b := make([]byte, sizes[level]); return &b }
}

// A waiter is a source that waits until Read returns at once.
type waiter interface{ Wait() }

// A Reader splits a stream into batches of complete events. One goroutine at a time may use it.
type Reader struct {
	src    io.Reader
	wait   waiter // src; nil if it cannot wait
	max    int
	buf    []byte
	buffer *[]byte // buf, as its pool has it
	level  int     // the index of that pool; len(sizes) if an event is larger than the buffers of all pools
	small  int     // number of reads in a row for which a smaller buffer is enough
	err    error   // the error that ended reading

	// Indexes of buf. Returned batches end at start, and what was read after them ends at end. The incomplete line starts at
	// line and has no line end before seen, so that every byte is examined only once, however long an event is.
	start, end, line, seen int

	begun   bool // the start of the stream was checked for a byte order mark
	afterCR bool // the byte before line is a CR: if an LF follows, it belongs to that
}

// NewReader returns a new Reader of events of at most max bytes.
func NewReader(r io.Reader, max int) *Reader {
	buffer := pools[0].Get().(*[]byte)
	wait, _ := r.(waiter)
	return &Reader{src: r, wait: wait, max: max, buffer: buffer, buf: *buffer}
}

// Close returns the buffer to its pool; the batches of Next are invalid then. It may be called twice, and does not close the
// stream.
func (r *Reader) Close() {
	r.release()
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
	if r.end == 0 && r.level == 0 && r.wait != nil {
		r.awaitMore()
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 || err != nil {
			if r.small++; levelFor(r.end-r.start) >= r.level {
				r.small = 0
			}
			return
		}
	}
	r.err = io.ErrNoProgress
}

// awaitMore waits for more of a stream without a buffer.
func (r *Reader) awaitMore() {
	r.release()
	r.wait.Wait()
	r.buffer = pools[0].Get().(*[]byte)
	r.buf = *r.buffer
}

// makeSpace moves what was not returned yet to the front. It takes a larger buffer when the last read nearly filled the buffer (the
// framing of chunks takes space, too), since more may be waiting, or when one event fills it. It goes back to a smaller one when little has
// been read several times, or once after a large event.
func (r *Reader) makeSpace() {
	waiting := r.buf[r.start:r.end]
	switch {
	case r.level < forBatches && r.end > len(r.buf)*3/4, r.level+1 < len(sizes) && len(waiting) == len(r.buf):
		r.use(r.level+1, waiting)
	case len(waiting) == len(r.buf):
		// One byte over the bound shows that an event is too long.
		larger := make([]byte, max(min(2*len(r.buf), r.max+1), len(waiting)+1))
		r.replace(len(sizes), &larger, waiting)
	case r.small > 0 && r.level > forBatches:
		r.use(max(forBatches, levelFor(len(waiting))), waiting)
	case r.small >= smallReads:
		r.use(r.level-1, waiting)
	default:
		copy(r.buf, waiting)
	}
	r.end, r.line, r.seen, r.start = len(waiting), r.line-r.start, r.seen-r.start, 0
}

// levelFor returns the smallest buffers that n bytes fill to less than a half.
func levelFor(n int) (level int) {
	for level < len(sizes) && n >= sizes[level]/2 {
		level++
	}
	return level
}

// use replaces the buffer by a pooled one that begins with the waiting bytes.
func (r *Reader) use(level int, waiting []byte) {
	r.replace(level, pools[level].Get().(*[]byte), waiting)
}

func (r *Reader) replace(level int, by *[]byte, waiting []byte) {
	copy(*by, waiting)
	r.release()
	r.level, r.buffer, r.buf, r.small = level, by, *by, 0
}

// release returns the buffer to its pool.
func (r *Reader) release() {
	if r.buffer != nil && r.level < len(sizes) {
		pools[r.level].Put(r.buffer)
	}
	r.buffer = nil
}
