package fakellm

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

//go:embed testdata/captures
var captured embed.FS

// Captures are the captures that the package has: "llamacpp/chat.txt", "ollama/v1-chat.txt" and so on.
func Captures() fs.FS {
	sub, err := fs.Sub(captured, "testdata/captures")
	if err != nil {
		panic(err) // not possible: the folder is compiled in
	}
	return sub
}

// A Capture is one exchange with a real server as it was recorded.
type Capture struct {
	Name    string
	Request CapturedRequest
	Status  int
	Header  http.Header
	Body    []byte
}

// A CapturedRequest is what was sent.
type CapturedRequest struct {
	Method, Path string // with query
	Header       http.Header
	Body         []byte
	Cut          bool // the file does not have the whole body
}

// LoadCapture reads a capture: a note, then the request and the response as they were on the wire, without chunk framing.
func LoadCapture(fsys fs.FS, name string) (*Capture, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading a capture: %w", err)
	}
	_, rest, ok := bytes.Cut(text, []byte(">>> request\n"))
	request, response, ok2 := bytes.Cut(rest, []byte("\n\n<<< response\n"))
	if !ok || !ok2 {
		return nil, fmt.Errorf("capture %s: %w", name, errNoExchange)
	}
	c := &Capture{Name: name}
	if err := c.readRequest(request); err != nil {
		return nil, fmt.Errorf("capture %s: reading the request: %w", name, err)
	}
	if err := c.readResponse(response); err != nil {
		return nil, fmt.Errorf("capture %s: reading the response: %w", name, err)
	}
	return c, nil
}

var (
	errNoExchange = errors.New("no request and response in it")
	errFirstLine  = errors.New("not a line of HTTP")
)

// Replay answers with the capture's response.
func Replay(c *Capture) Answer { return Raw(c.Status, c.Header, c.Body) }

func (c *Capture) readRequest(text []byte) error {
	first, header, body, err := parseMessage(text)
	if err != nil {
		return err
	}
	if len(first) != 3 {
		return errFirstLine
	}
	c.Request = CapturedRequest{Method: first[0], Path: first[1], Header: header, Body: body}
	c.Request.Cut = bytes.Contains(body, []byte("... [body cut here: "))
	return nil
}

func (c *Capture) readResponse(text []byte) error {
	first, header, body, err := parseMessage(text)
	if err != nil {
		return err
	}
	if len(first) < 2 {
		return errFirstLine
	}
	c.Header, c.Body = header, body
	if c.Status, err = strconv.Atoi(first[1]); err != nil {
		return fmt.Errorf("the status: %w", err)
	}
	return nil
}

func parseMessage(text []byte) (first []string, header http.Header, body []byte, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	tp := textproto.NewReader(r)
	line, err := tp.ReadLine()
	if err != nil {
		return nil, nil, nil, err
	}
	fields, err := tp.ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, nil, err
	}
	body, err = io.ReadAll(r)
	return strings.Fields(line), http.Header(fields), body, err
}
