package wire

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A Form is what the gateway must know of a multipart form (RFC 7578): where its model stands, so that another name can be
// put there without touching the rest.
type Form struct {
	Model     string
	HasModel  bool
	ModelSpan Span64 // the value of the model's part
	Stream    bool
	Size      int64 // of the whole form
}

// A Span64 is a part of something too large for memory.
type Span64 struct{ Start, End int64 }

const (
	maxPartHeader = 16 << 10
	maxParts      = 1000
	maxPadding    = 64
)

// ParseForm reads a form once, without keeping it in memory. The framing is RFC 2046's, with the preamble, padding and
// epilogue that it allows. Servers are more tolerant than that, each in its own way, so what one could take for a boundary
// or for the model and another could not is refused.
func ParseForm(r io.ReaderAt, size int64, boundary string) (*Form, *Error) {
	if !validBoundary(boundary) {
		return nil, invalid("", "The \"boundary\" in Content-Type is none: it takes 1 to 70 letters, digits or '()+_,-./:=? characters.")
	}
	p := formParser{w: window{r: r, size: size}, dashed: []byte("--" + boundary), form: &Form{Size: size}}
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.form, nil
}

// validBoundary holds to RFC 2046 §5.1.1.
func validBoundary(b string) bool {
	return len(b) > 0 && len(b) <= 70 && b[len(b)-1] != ' ' &&
		strings.Trim(b, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'()+_,-./:=? ") == ""
}

type formParser struct {
	w          window
	dashed     []byte // two dashes and the boundary
	form       *Form
	seenStream bool
}

// A boundary is a line that ends a part, or the preamble.
type boundary struct {
	start int64 // where what it ends is over: before the line end that belongs to the boundary
	next  int64 // behind its line
	last  bool
}

func (p *formParser) parse() *Error {
	b, err := p.find(0)
	for n := 0; err == nil && !b.last; n++ {
		if n == maxParts {
			return badForm(b.next, fmt.Sprintf("it has more than %d parts", maxParts))
		}
		b, err = p.part(b.next)
	}
	if err != nil {
		return err
	}
	if at, found, err := p.w.index(p.dashed, b.next); err != nil {
		return unreadable()
	} else if found {
		return badForm(at, "its boundary stands again behind its end")
	}
	return nil
}

// part reads the part that begins at an offset with its header, up to the boundary that ends it.
func (p *formParser) part(at int64) (boundary, *Error) {
	h, body, err := p.header(at)
	if err != nil {
		return boundary{}, err
	}
	end, err := p.find(body)
	if err != nil {
		return boundary{}, err
	}
	// A boundary that follows at once on the header shares the header's line end.
	return end, p.note(h, Span64{body, max(body, end.start)})
}

// find gives the first boundary from an offset on.
func (p *formParser) find(from int64) (boundary, *Error) {
	for {
		at, found, err := p.w.index(p.dashed, from)
		if err != nil {
			return boundary{}, unreadable()
		}
		if !found {
			return boundary{}, badForm(p.w.size, "its closing boundary is missing: was it cut off?")
		}
		before, err := p.w.slice(max(at-2, 0), int(min(at, 2)))
		if err != nil {
			return boundary{}, unreadable()
		}
		if at == 0 || string(before) == "\r\n" {
			return p.line(at)
		}
		if c := before[len(before)-1]; c == '\n' || c == '\r' {
			return boundary{}, badForm(at, "the line end before a boundary is not CR LF")
		}
		from = at + 1
	}
}

// line reads the rest of a boundary's line: two dashes if it is the last one, padding, CR LF.
func (p *formParser) line(at int64) (boundary, *Error) {
	next := at + int64(len(p.dashed))
	rest, err := p.w.slice(next, maxPadding+4)
	if err != nil {
		return boundary{}, unreadable()
	}
	last := bytes.HasPrefix(rest, []byte("--"))
	if last {
		next, rest = next+2, rest[2:]
	}
	padded := len(rest)
	rest = bytes.TrimLeft(rest, " \t")
	next += int64(padded - len(rest))
	if bytes.HasPrefix(rest, []byte("\r\n")) {
		return boundary{max(at-2, 0), next + 2, last}, nil
	}
	if last && next == p.w.size {
		return boundary{max(at-2, 0), next, last}, nil
	}
	return boundary{}, badForm(at, "something else than CR LF stands behind a boundary")
}

// note takes what a part says, if it is one that matters.
func (p *formParser) note(h partHeader, at Span64) *Error {
	name := strings.ToLower(strings.TrimSpace(h.name))
	if name != "model" && name != "stream" {
		return nil
	}
	if h.name != name || h.more || h.encoded {
		return invalid(name, fmt.Sprintf("The form's part %q is in disguise: spell its name %q, and send it as plain text without a filename or encoding.", h.name, name))
	}
	if name == "model" && p.form.HasModel || name == "stream" && p.seenStream {
		return invalid(name, fmt.Sprintf("The form has more than one part %q, and servers disagree on which one counts: send it once.", name))
	}
	if at.End-at.Start > maxModelName {
		return invalid(name, fmt.Sprintf("The form's part %q is %d bytes long; it has at most %d.", name, at.End-at.Start, maxModelName))
	}
	value, err := p.w.slice(at.Start, int(at.End-at.Start))
	if err != nil {
		return unreadable()
	}
	if name == "stream" {
		return p.noteStream(string(value))
	}
	if err := checkModel(value); err != nil {
		return err
	}
	p.form.Model, p.form.HasModel, p.form.ModelSpan = string(value), true, at
	return nil
}

func (p *formParser) noteStream(value string) *Error {
	stream, err := strconv.ParseBool(value)
	if err != nil {
		return invalid("stream", fmt.Sprintf("The form's part \"stream\" must be true or false, not %.40q.", value))
	}
	p.form.Stream, p.seenStream = stream, true
	return nil
}

func badForm(at int64, problem string) *Error {
	return invalid("", fmt.Sprintf("The body is not a multipart form: %s (byte %d).", problem, at))
}

// unreadable does not name the cause, which holds the path of a temporary file.
func unreadable() *Error {
	return &Error{Status: http.StatusInternalServerError, Type: "server_error", Message: "The gateway could not read back the form that it received. Try again."}
}
