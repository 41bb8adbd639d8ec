package wire

import (
	"bytes"
	"fmt"
	"io"
)

// windowSize is how much of a form is in memory at a time.
const windowSize = 64 << 10

// A window is the part of a form that is in memory.
type window struct {
	r     io.ReaderAt
	size  int64
	buf   []byte
	start int64 // the offset of buf
}

// slice gives n bytes from an offset, fewer only at the end of the form. They are valid until the next call.
func (w *window) slice(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-at))
	if at < w.start || at+int64(n) > w.start+int64(len(w.buf)) {
		if err := w.load(at); err != nil {
			return nil, err
		}
	}
	i := int(at - w.start)
	return w.buf[i : i+n], nil
}

// index finds a text that is shorter than the window.
func (w *window) index(text []byte, from int64) (at int64, found bool, err error) {
	for w.size-from >= int64(len(text)) {
		if _, err := w.slice(from, len(text)); err != nil {
			return 0, false, err
		}
		loaded := w.buf[from-w.start:]
		if i := bytes.Index(loaded, text); i >= 0 {
			return from + int64(i), true, nil
		}
		from += int64(len(loaded) - len(text) + 1) // the text may begin in what is left
	}
	return 0, false, nil
}

func (w *window) load(at int64) error {
	n := int(min(windowSize, w.size-at))
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.start = w.buf[:n], at
	if got, err := w.r.ReadAt(w.buf, at); got < n {
		w.buf = w.buf[:0]
		return fmt.Errorf("reading %d bytes at %d: %w", n, at, err)
	}
	return nil
}
