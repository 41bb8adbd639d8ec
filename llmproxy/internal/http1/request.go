package http1

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// validate rejects requests that are not for this transport, and anything that could end a line of the request early and so smuggle
// in a second request.
func validate(req *http.Request) error {
	switch {
	case req.URL == nil || req.URL.Scheme != "http":
		return errors.New("not an http:// address")
	case req.URL.Host == "":
		return errors.New("the address has no host")
	case req.Method != "" && !isToken(req.Method):
		return errors.New("invalid method")
	case strings.ContainsFunc(host(req), invalidInHost):
		return errors.New("invalid host")
	case strings.ContainsFunc(req.URL.RequestURI(), invalidInTarget):
		return errors.New("invalid path or query")
	}
	for name, values := range req.Header {
		if !isToken(name) {
			return errors.New("invalid header name")
		}
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("invalid value of header %s", name) // the value may be a secret
			}
		}
	}
	return nil
}

// isToken reports whether s is a token (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return s != ""
}

var tokenByte = func() (table [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[c] = true
	}
	return table
}()

// isFieldValue reports whether s may be the value of a header (RFC 9110 §5.5), bytes over 127 included.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func invalidInHost(r rune) bool {
	switch r {
	case '"', '#', '/', '<', '>', '?', '@', '\\', '^', '`', '{', '|', '}':
		return true
	}
	return r <= ' ' || r >= 0x7f
}

func invalidInTarget(r rune) bool { return r <= ' ' || r == 0x7f }

// host returns the value of the Host header. The zone of an IPv6 address is left out: it means nothing to the server.
func host(req *http.Request) string {
	h := cmp.Or(req.Host, req.URL.Host)
	if strings.HasPrefix(h, "[") {
		if zone, end := strings.IndexByte(h, '%'), strings.IndexByte(h, ']'); zone >= 0 && zone < end {
			return h[:zone] + h[end:]
		}
	}
	return h
}

// bodyLength returns the length of the body, or -1 if it is unknown.
func bodyLength(req *http.Request) int64 {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return 0
	case req.ContentLength > 0:
		return req.ContentLength
	}
	return -1 // http.Request.ContentLength: zero with a body means unknown
}

// appendHead appends the request line and the headers of a valid request.
func appendHead(b []byte, req *http.Request, length int64) []byte {
	method := cmp.Or(req.Method, http.MethodGet)
	b = append(append(b, method...), ' ')
	b = append(append(b, req.URL.RequestURI()...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, host(req)...), "\r\n"...)
	for name, values := range req.Header {
		if isFraming(name) {
			continue
		}
		for _, value := range values {
			b = append(append(b, name...), ": "...)
			b = append(append(b, value...), "\r\n"...)
		}
	}
	switch {
	case length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case length > 0 || method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch:
		b = strconv.AppendInt(append(b, "Content-Length: "...), length, 10)
		b = append(b, "\r\n"...)
	}
	if req.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	return append(b, "\r\n"...)
}

// isFraming reports whether a header, however it is spelled, is left out because the request's fields determine it, as in net/http.
func isFraming(name string) bool {
	switch len(name) {
	case 4:
		return strings.EqualFold(name, "Host")
	case 7:
		return strings.EqualFold(name, "Trailer")
	case 14:
		return strings.EqualFold(name, "Content-Length")
	case 17:
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

const (
	// writeBuffer is the size of the buffer that collects the head and small pieces of the body, so that they are sent together.
	writeBuffer = 32 << 10
	// smallPiece is the length up to which copying a piece of the body is cheaper than a system call.
	smallPiece = 4 << 10
	// chunkHead is the space for a chunk's length, in four digits.
	chunkHead = len("7fff\r\n")
	// chunkTail is the space for a chunk's end and the last chunk.
	chunkTail = len("\r\n0\r\n\r\n")
)

var writers = sync.Pool{New: func() any { return &writer{buf: make([]byte, 0, writeBuffer)} }}

// A writer collects a request and writes it with as few system calls as possible. It is in use only while writing.
type writer struct {
	nc     net.Conn
	buf    []byte
	vector [8][]byte
	pieces net.Buffers // in vector; a field, because a local variable would be allocated on the heap
	left   int64       // how many more bytes the body may have
	err    error       // of the connection
}

// A bodyError means that the request's body failed, not the connection.
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
		err = w.writeFixed(body, length)
	case length < 0:
		err = w.writeChunked(body)
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

// writeFixed writes a body of known length. It never writes more, which the server would take for the start of another request.
func (w *writer) writeFixed(body io.Reader, length int64) error {
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

// Write implements io.Writer for bodies that are an io.WriterTo. Large pieces are written to the connection without a copy.
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

// WriteSegments writes all segments of a body, and the bytes that are buffered, with one system call.
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

// copy writes a body through the buffer, after the head.
func (w *writer) copy(body io.Reader) error {
	for {
		if err := w.ensureSpace(); err != nil {
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

// writeChunked writes a body of unknown length (RFC 9112 §7.1), each piece as soon as it is read.
func (w *writer) writeChunked(body io.Reader) error {
	for {
		if err := w.ensureSpace(); err != nil {
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

// ensureSpace flushes the buffer if it is nearly full.
func (w *writer) ensureSpace() error {
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
