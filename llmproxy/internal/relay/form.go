package relay

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A form is what a body consists of. Its first bytes show it. The Content-Type only decides where they do not: servers, and proxies in
// front of them, label streams as JSON or text, and JSON as text or as a stream.
type form uint8

const (
	otherForm form = iota // neither of the others, or nothing at all
	jsonForm
	eventForm
)

// labeled returns the form that the Content-Type announces. Without a type it is JSON.
func labeled(h http.Header) form {
	contentType := h.Get("Content-Type")
	switch contentType {
	case "", "application/json", "application/json; charset=utf-8":
		return jsonForm
	case "text/event-stream", "text/event-stream; charset=utf-8":
		return eventForm
	}
	media, _, _ := mime.ParseMediaType(contentType) // an invalid type announces nothing
	switch {
	case media == "application/json", strings.HasSuffix(media, "+json"):
		return jsonForm
	case media == "text/event-stream":
		return eventForm
	}
	return otherForm
}

// readsAsJSON reports whether clients parse an answer with this Content-Type as JSON. OpenAI's SDK for Python compares the type's end,
// and takes any other answer for text.
func readsAsJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.HasSuffix(strings.TrimSpace(media), "json")
}

const byteOrderMark = "\xEF\xBB\xBF"

var fieldNames = [...]string{"data", "event", "id", "retry", "error"}

// formOf returns the form of a body that begins with these bytes, and where its JSON begins: after a byte order mark, white space, and
// comments, with which proxies keep a connection alive while they wait for the answer. It returns false if more bytes are needed; the
// form is then what to assume if the body ends here.
func formOf(b []byte) (f form, start int, known bool) {
	if len(b) < len(byteOrderMark) && strings.HasPrefix(byteOrderMark, string(b)) {
		return otherForm, 0, false
	}
	rest := bytes.TrimPrefix(b, []byte(byteOrderMark))
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n")
		switch {
		case len(rest) == 0:
			return f, 0, false
		case rest[0] == '{', rest[0] == '[':
			return jsonForm, len(b) - len(rest), true
		case rest[0] == ':':
			f = eventForm
			end := bytes.IndexAny(rest, "\r\n")
			if end < 0 {
				return f, 0, false
			}
			rest = rest[end:]
			continue
		}
		for _, name := range fieldNames {
			switch after := bytes.TrimPrefix(rest, []byte(name)); {
			case len(rest) <= len(name) && strings.HasPrefix(name, string(rest)):
				return f, 0, false
			case len(after) < len(rest) && (after[0] == ':' || after[0] == '\r' || after[0] == '\n'):
				return eventForm, 0, true
			}
		}
		return f, 0, true
	}
}

// peekForm returns the form of a stream, and where its JSON begins.
func peekForm(events *sse.Reader) (form, int) {
	read := 0
	for {
		b := events.Peek(read + 1)
		f, start, known := formOf(b)
		if known || len(b) == read || len(b) > maxHeld {
			return f, start
		}
		read = len(b)
	}
}

// unread gives back to a response what was read of its body, except for the first bytes.
func unread(res *http.Response, read []byte, from int) {
	rest := bytes.NewReader(bytes.Clone(read[from:]))
	res.Body = &resumedBody{io.MultiReader(rest, res.Body), res.Body}
	if from > 0 {
		res.ContentLength = -1
	}
}

// A resumedBody is a body whose beginning was read and given back.
type resumedBody struct {
	io.Reader
	io.Closer
}
