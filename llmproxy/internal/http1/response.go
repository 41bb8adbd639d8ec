package http1

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync/atomic"
)

var headEnd = []byte("\r\n\r\n")

// readUsualHead reads the head of an answer from the buffered bytes, if it has nothing unusual. That costs a third of what net/http
// spends, and works for nearly all answers. It leaves any other head unread, for net/http. A fuzz test checks that both read the
// same. The body is left to the caller, unless it is empty.
func (c *conn) readUsualHead(req *http.Request) (*http.Response, bool) {
	read, _ := c.r.Peek(c.r.Buffered())
	end := bytes.Index(read, headEnd)
	if end < 0 || req.Method == http.MethodHead {
		return nil, false
	}
	h := usualHead{rest: string(read[:end+len("\r\n")])}
	res := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Request: req}
	if !h.statusLine(res) || !h.headers(res) || !h.framing(res) {
		return nil, false
	}
	c.r.Discard(end + len(headEnd)) // it is buffered
	if res.ContentLength == 0 {
		res.Body = http.NoBody
	}
	return res, true
}

// A usualHead is the part of a head that is still to be read, as whole lines.
type usualHead struct {
	rest           string
	values         []string // backs the values of the headers
	length, chunks bool     // which headers delimit the body
}

// line cuts off the next line. It reports false if no complete line is left, or if the line has anything but visible ASCII, spaces
// and tabs.
func (h *usualHead) line() (line string, ok bool) {
	i := strings.IndexByte(h.rest, '\r')
	if i < 0 || h.rest[i+1] != '\n' {
		return "", false
	}
	line, h.rest = h.rest[:i], h.rest[i+len("\r\n"):]
	for j := range len(line) {
		if b := line[j]; b < ' ' && b != '\t' || b > '~' {
			return "", false
		}
	}
	return line, true
}

// statusLine reads the status line of an answer that has a body.
func (h *usualHead) statusLine(res *http.Response) bool {
	line, ok := h.line()
	status, found := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || !found || len(status) < len("200 ") || status[3] != ' ' || status[0] < '2' || status[0] > '5' {
		return false
	}
	for _, digit := range []byte(status[:3]) {
		if digit < '0' || digit > '9' {
			return false
		}
		res.StatusCode = 10*res.StatusCode + int(digit-'0')
	}
	res.Status = status
	return res.StatusCode != http.StatusNoContent && res.StatusCode != http.StatusNotModified
}

func (h *usualHead) headers(res *http.Response) bool {
	n := strings.Count(h.rest, "\n")
	res.Header, h.values = make(http.Header, n), make([]string, 0, n)
	for h.rest != "" {
		line, ok := h.line()
		name, value, found := strings.Cut(line, ":")
		if !ok || !found || !isToken(name) {
			return false
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " \t")
		if res.Header[name] != nil || name == "Connection" && res.Close {
			return false // a repeated header may be meant as a list
		}
		if !h.interpret(res, name, value) {
			continue
		}
		h.values = append(h.values, value)
		at := len(h.values)
		res.Header[name] = h.values[at-1 : at : at]
	}
	return true
}

// interpret evaluates a header that concerns the body or the connection. It reports whether the response keeps the header, as in
// net/http.
func (h *usualHead) interpret(res *http.Response, name, value string) (keep bool) {
	switch name {
	case "Content-Length":
		h.length, res.ContentLength = true, parseLength(value)
	case "Transfer-Encoding":
		h.chunks = res.TransferEncoding == nil && strings.EqualFold(value, "chunked") // and only once
		res.TransferEncoding = []string{"chunked"}
		return false
	case "Connection":
		res.Close = strings.EqualFold(value, "close")
		return !res.Close
	}
	return true
}

// parseLength returns a number of up to 15 digits, or -1.
func parseLength(s string) (n int64) {
	if s == "" || len(s) > 15 {
		return -1
	}
	for _, digit := range []byte(s) {
		if digit < '0' || digit > '9' {
			return -1
		}
		n = 10*n + int64(digit-'0')
	}
	return n
}

// framing reports whether it is clear where the body ends, and no header asks for special treatment.
func (h *usualHead) framing(res *http.Response) bool {
	for _, unusual := range [...]string{"Trailer", "Upgrade", "Pragma"} {
		if res.Header[unusual] != nil {
			return false
		}
	}
	if connection := res.Header["Connection"]; connection != nil && !strings.EqualFold(connection[0], "keep-alive") {
		return false
	}
	if res.TransferEncoding != nil {
		return h.chunks && !h.length
	}
	return h.length && res.ContentLength >= 0
}

// An answerBody is the body of an answer. At its end the connection is returned to the pool; if it is closed before, the
// connection is closed. One goroutine may read; any may close, also during a read.
type answerBody struct {
	src      io.Reader
	chunks   chunked     // src, of a chunked answer
	fixed    fixedLength // src, of an answer with a usual head and a length
	c        *conn
	ctx      context.Context
	stop     func() bool // stops watching ctx
	reusable bool
	err      error       // the error that ended reading; used by the reading goroutine only
	finished atomic.Bool // the connection was returned or closed
}

// Read implements io.Reader.
func (a *answerBody) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	if a.finished.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := a.src.Read(p)
	if err != nil {
		a.end(err)
	}
	return n, a.err
}

// Wait waits until Read returns at once. The reader needs no buffer until then.
func (a *answerBody) Wait() {
	if a.err == nil && !a.finished.Load() && a.c.r == nil {
		a.c.wait(a.c.nc)
	}
}

// end releases the connection after the last byte or an error.
func (a *answerBody) end(err error) {
	if err != io.EOF {
		err = withCause(a.ctx, err)
	}
	a.err = err
	if !a.finished.CompareAndSwap(false, true) {
		if err != io.EOF {
			a.err = http.ErrBodyReadAfterClose
		}
		return
	}
	// Bytes after the answer belong to no request. If stop fails, the context has ended and the connection has expired.
	clean := a.stop() && err == io.EOF && a.reusable && !a.chunks.surplus && (a.c.r == nil || a.c.r.Buffered() == 0)
	a.c.release()
	if clean {
		a.c.t.putIdle(a.c)
	} else {
		a.c.close()
	}
}

// Close implements io.Closer. It may be called more than once. The buffer is left to the garbage collector, because another
// goroutine may be reading into it.
func (a *answerBody) Close() error {
	if a.finished.CompareAndSwap(false, true) {
		a.stop()
		a.c.close()
	}
	return nil
}

// A fixedLength reads a body of known length, and returns io.EOF together with its last byte.
type fixedLength struct {
	src  io.Reader
	left int64
}

// Read implements io.Reader.
func (r *fixedLength) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.src.Read(p)
	r.left -= int64(n)
	switch {
	case r.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}
