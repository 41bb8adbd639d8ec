package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

const (
	// writeBuffer holds the header and what is small of the body, so that they leave together.
	writeBuffer = 32 << 10
	// smallPiece is up to which length copying a piece of the body costs less than writing it by itself.
	smallPiece = 4 << 10
	// chunkHead is the room for a chunk's length, in four digits.
	chunkHead = len("7fff\r\n")
	// chunkTail is the room for a chunk's end and the last chunk.
	chunkTail = len("\r\n0\r\n\r\n")
)

var writers = sync.Pool{New: func() any { return &writer{buf: make([]byte, 0, writeBuffer)} }}

// A writer gathers a request and writes it with as few calls of the system as it can. It is held only while writing.
type writer struct {
	nc     net.Conn
	buf    []byte
	vector [8][]byte
	pieces net.Buffers // in vector; a field, because taking the address of a variable would allocate it
	left   int64       // what the body may still have
	err    error       // of the connection
}

// A bodyError says that the request's body is at fault, not the connection.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "reading the request's body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// write writes the request. Its error is a *bodyError or the connection's.
func (c *conn) write(req *http.Request, body io.Reader) error {
	w := writers.Get().(*writer)
	w.nc, w.err = c.nc, nil
	defer w.release()
	length := bodyLength(req)
	w.buf = appendHead(w.buf[:0], req, length)
	var err error
	switch {
	case length > 0:
		err = w.whole(body, length)
	case length < 0:
		err = w.chunks(body)
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil && w.err == nil {
		return &bodyError{err}
	}
	return w.err
}

func (w *writer) release() {
	w.nc, w.vector, w.pieces = nil, [8][]byte{}, nil
	if cap(w.buf) <= writeBuffer {
		writers.Put(w)
	}
}

var errLong = errors.New("longer than announced")

// whole writes a body of known length: never more, because that would be the start of another request.
func (w *writer) whole(body io.Reader, length int64) error {
	w.left = length
	var err error
	if from, ok := body.(io.WriterTo); ok {
		_, err = from.WriteTo(w)
	} else {
		err = w.copy(body)
	}
	if err == nil && w.left > 0 {
		return fmt.Errorf("%d bytes shorter than announced", w.left)
	}
	return err
}

// Write implements io.Writer for bodies that write themselves: large pieces go to the connection without a copy.
func (w *writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, errLong
	}
	w.left -= int64(len(p))
	if len(p) <= smallPiece && len(p) <= cap(w.buf)-len(w.buf) {
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	w.pieces = append(w.vector[:0], w.buf, p)
	return len(p), w.writePieces()
}

// WriteSegments writes all pieces of a body, and what waits in the buffer, with one call of the system.
func (w *writer) WriteSegments(segments [][]byte) (int64, error) {
	var n int64
	for _, s := range segments {
		n += int64(len(s))
	}
	if n > w.left {
		return 0, errLong
	}
	w.left -= n
	if n <= smallPiece && n <= int64(cap(w.buf)-len(w.buf)) {
		for _, s := range segments {
			w.buf = append(w.buf, s...)
		}
		return n, nil
	}
	w.pieces = append(append(w.vector[:0], w.buf), segments...)
	return n, w.writePieces()
}

func (w *writer) writePieces() error {
	_, w.err = w.pieces.WriteTo(w.nc)
	w.buf = w.buf[:0]
	return w.err
}

// copy reads a body to its end, behind the header in the buffer at first.
func (w *writer) copy(body io.Reader) error {
	for {
		if err := w.makeRoom(); err != nil {
			return err
		}
		n, err := body.Read(w.buf[len(w.buf):cap(w.buf)])
		if int64(n) > w.left {
			return errLong
		}
		w.left -= int64(n)
		w.buf = w.buf[:len(w.buf)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// chunks writes a body of unknown length (RFC 9112 §7.1), each piece when it is there.
func (w *writer) chunks(body io.Reader) error {
	for {
		if err := w.makeRoom(); err != nil {
			return err
		}
		start := len(w.buf) + chunkHead
		n, err := body.Read(w.buf[start:min(start+writeBuffer, cap(w.buf)-chunkTail)])
		if n > 0 {
			w.buf = fmt.Appendf(w.buf, "%04x\r\n", n)[:start+n]
			w.buf = append(w.buf, "\r\n"...)
		}
		if err == io.EOF {
			w.buf = append(w.buf, "0\r\n\r\n"...)
			return nil
		}
		if err == nil {
			err = w.flush()
		}
		if err != nil {
			return err
		}
	}
}

// makeRoom sees to it that something can be read behind what waits in the buffer.
func (w *writer) makeRoom() error {
	if cap(w.buf)-len(w.buf) < smallPiece {
		return w.flush()
	}
	return nil
}

func (w *writer) flush() error {
	if len(w.buf) > 0 {
		_, w.err = w.nc.Write(w.buf)
		w.buf = w.buf[:0]
	}
	return w.err
}
