package fakellm

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"path"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/captures
var captures embed.FS

// A Capture is one exchange with a real server as it was recorded.
type Capture struct {
	Name          string // "llamacpp/chat.txt": kind and file
	Method, Path  string // the path with its query
	RequestHeader http.Header
	RequestBody   []byte
	Status        int
	Header        http.Header
	Body          []byte
}

// LoadCapture reads one of the captures in testdata/captures.
func LoadCapture(tb testing.TB, name string) *Capture {
	tb.Helper()
	text, err := captures.ReadFile(path.Join("testdata/captures", name))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := parseCapture(name, text)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Replay answers with the response of a capture.
func Replay(c *Capture) Answer { return Raw(c.Status, c.Header, c.Body) }

// parseCapture reads a note, then the request and the response as they were on the wire, without chunk framing.
func parseCapture(name string, text []byte) (*Capture, error) {
	_, rest, ok := bytes.Cut(text, []byte(">>> request\n"))
	request, response, ok2 := bytes.Cut(rest, []byte("\n\n<<< response\n"))
	if !ok || !ok2 {
		return nil, fmt.Errorf("capture %s: no request and response in it", name)
	}
	first, header, body, err := parseMessage(request, 3)
	if err != nil {
		return nil, fmt.Errorf("capture %s: reading the request: %w", name, err)
	}
	c := &Capture{Name: name, Method: first[0], Path: first[1], RequestHeader: header, RequestBody: body}
	if first, c.Header, c.Body, err = parseMessage(response, 2); err == nil {
		c.Status, err = strconv.Atoi(first[1])
	}
	if err != nil {
		return nil, fmt.Errorf("capture %s: reading the response: %w", name, err)
	}
	return c, nil
}

// parseMessage reads a first line of at least n words, the header and the body.
func parseMessage(text []byte, n int) (first []string, header http.Header, body []byte, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	tp := textproto.NewReader(r)
	line, err := tp.ReadLine()
	if err != nil {
		return nil, nil, nil, err
	}
	if first = strings.Fields(line); len(first) < n {
		return nil, nil, nil, fmt.Errorf("not the first line of an HTTP message: %q", line)
	}
	fields, err := tp.ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, nil, err
	}
	body, err = io.ReadAll(r)
	return first, http.Header(fields), body, err
}
