package http1

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"strings"
)

var headEnd = []byte("\r\n\r\n")

// plainHead reads the head of an answer from what is buffered, if there is nothing unusual to it, as nearly always: that costs a
// third of what net/http spends. What it is not sure of it leaves to net/http, unread. That both find the same is held by a fuzz
// target. The body is left to the caller, unless it is empty.
func (c *conn) plainHead(req *http.Request) (*http.Response, bool) {
	read, _ := c.r.Peek(c.r.Buffered())
	end := bytes.Index(read, headEnd)
	if end < 0 || req.Method == http.MethodHead {
		return nil, false
	}
	h := plainHead{rest: string(read[:end+len("\r\n")])}
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

// A plainHead is the part of a head that is still to be read, whole lines.
type plainHead struct {
	rest          string
	values        []string // room for the values of headers
	length, chunk bool     // how the body's end is known
}

// line cuts the next line; false where there is none, or where it has something else than visible ASCII, spaces and tabs.
func (h *plainHead) line() (line string, ok bool) {
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

// statusLine reads one as every server writes it, of an answer that has a body.
func (h *plainHead) statusLine(res *http.Response) bool {
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

func (h *plainHead) headers(res *http.Response) bool {
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
			return false // what is said twice may be meant as a list
		}
		if !h.note(res, name, value) {
			continue
		}
		h.values = append(h.values, value)
		at := len(h.values)
		res.Header[name] = h.values[at-1 : at : at]
	}
	return true
}

// note takes what a header says of the body and of the connection; false keeps it out of the headers, as net/http does.
func (h *plainHead) note(res *http.Response, name, value string) bool {
	switch name {
	case "Content-Length":
		h.length, res.ContentLength = true, decimal(value)
	case "Transfer-Encoding":
		h.chunk = !h.chunk && strings.EqualFold(value, "chunked")
		res.TransferEncoding = []string{"chunked"}
		return false
	case "Connection":
		res.Close = strings.EqualFold(value, "close")
		return !res.Close
	}
	return true
}

// decimal reads a number of up to 15 digits; -1 for what is none.
func decimal(s string) (n int64) {
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

// framing tells whether it is clear where the body ends, and that nothing else is to be said about it.
func (h *plainHead) framing(res *http.Response) bool {
	for _, unusual := range [...]string{"Trailer", "Upgrade", "Pragma"} {
		if res.Header[unusual] != nil {
			return false
		}
	}
	if connection := res.Header["Connection"]; connection != nil && !strings.EqualFold(connection[0], "keep-alive") {
		return false
	}
	if res.TransferEncoding != nil {
		return h.chunk && !h.length
	}
	return h.length && res.ContentLength >= 0
}

// A counted reads a body of known length, and tells its end together with its last byte.
type counted struct {
	src  io.Reader
	left int64
}

// Read implements io.Reader.
func (r *counted) Read(p []byte) (int, error) {
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
