package http1

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// check refuses what is not for this transport, and what could end a line of the request early and so smuggle another
// request behind it.
func check(req *http.Request) error {
	switch {
	case req.URL == nil || req.URL.Scheme != "http":
		return errors.New("not an http:// address")
	case req.URL.Host == "":
		return errors.New("the address has no host")
	case req.Method != "" && !isToken(req.Method):
		return errors.New("invalid method")
	case strings.ContainsFunc(host(req), badInHost):
		return errors.New("invalid host")
	case strings.ContainsFunc(req.URL.RequestURI(), badInTarget):
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

// isToken is RFC 9110 §5.6.2.
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

// isFieldValue is RFC 9110 §5.5, bytes over 127 included.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func badInHost(r rune) bool {
	switch r {
	case '"', '#', '/', '<', '>', '?', '@', '\\', '^', '`', '{', '|', '}':
		return true
	}
	return r <= ' ' || r >= 0x7f
}

func badInTarget(r rune) bool { return r <= ' ' || r == 0x7f }

// host is what the Host header says. The zone of an IPv6 address means nothing at the other end.
func host(req *http.Request) string {
	h := req.Host
	if h == "" {
		h = req.URL.Host
	}
	if strings.HasPrefix(h, "[") {
		if zone, end := strings.IndexByte(h, '%'), strings.IndexByte(h, ']'); zone >= 0 && zone < end {
			return h[:zone] + h[end:]
		}
	}
	return h
}

// bodyLength is how many bytes the body has; -1 if that shows only at its end.
func bodyLength(req *http.Request) int64 {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return 0
	case req.ContentLength > 0:
		return req.ContentLength
	}
	return -1 // a length of zero beside a body means unknown: net/http.Request.ContentLength
}

// appendHead appends the request line and the headers of a request that check has passed.
func appendHead(b []byte, req *http.Request, length int64) []byte {
	method := req.Method
	if method == "" {
		method = http.MethodGet
	}
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

// isFraming tells which headers are written from the request's fields alone, as net/http does, however they are spelled.
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
