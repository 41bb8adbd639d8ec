// Package formdata reads multipart forms (RFC 7578) in place: it finds where the parts of a form are, without holding the form in
// memory, so that one of them can be replaced without touching the rest.
//
// The framing is RFC 2046's, including preamble, padding and epilogue. Servers are more tolerant than that, each in its own way, so
// anything that only some of them would treat as a boundary is an error. The package does not know what a part means. It stands on
// the lowest floor.
package formdata

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Span is a range of bytes of a form.
type Span struct{ Start, End int64 }

// A Part is one part of a form: its name, and where its content is.
type Part struct {
	Name string
	// Plain reports whether the content is the value itself: the part has no filename and no transfer encoding.
	Plain bool
	Value Span
}

const (
	maxPartHeader = 16 << 10
	maxParts      = 1000
	maxPadding    = 64
)

// A SyntaxError says where a form stops being valid.
type SyntaxError struct {
	Offset int64
	Msg    string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (byte %d)", e.Msg, e.Offset) }

// ErrBoundary means that the boundary in the Content-Type is invalid.
var ErrBoundary = errors.New("it must have 1 to 70 letters, digits or '()+_,-./:=? characters")

// Read visits the parts of a form in order. In visit, content returns the first n bytes of the part, or all of it if it is shorter;
// they are valid until the next call. An error from visit stops Read, which returns it.
func Read(r io.ReaderAt, size int64, boundary string, visit func(p Part, content func(n int) ([]byte, error)) error) error {
	if !validBoundary(boundary) {
		return ErrBoundary
	}
	p := parser{w: window{r: r, size: size}, dashed: []byte("--" + boundary), visit: visit}
	return p.parse()
}

// validBoundary checks a boundary by RFC 2046 §5.1.1.
func validBoundary(b string) bool {
	return len(b) > 0 && len(b) <= 70 && b[len(b)-1] != ' ' &&
		strings.Trim(b, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'()+_,-./:=? ") == ""
}

type parser struct {
	w      window
	dashed []byte // "--" and the boundary
	visit  func(Part, func(int) ([]byte, error)) error
}

// A boundary is a line that ends a part or the preamble.
type boundary struct {
	start int64 // offset of the line break before it, which belongs to the boundary
	next  int64 // offset after its line
	last  bool
}

func (p *parser) parse() error {
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
		return err
	} else if found {
		return badForm(at, "the boundary appears again after the end")
	}
	return nil
}

// part reads the part that starts at an offset, up to the boundary that ends it.
func (p *parser) part(at int64) (boundary, error) {
	h, body, err := p.header(at)
	if err != nil {
		return boundary{}, err
	}
	end, err := p.find(body)
	if err != nil {
		return boundary{}, err
	}
	// A boundary right after the header shares the header's line break.
	value := Span{body, max(body, end.start)}
	return end, p.visit(Part{h.name, !h.hasMore && !h.encoded, value}, func(n int) ([]byte, error) {
		return p.w.slice(value.Start, int(min(int64(n), value.End-value.Start)))
	})
}

// find returns the first boundary at or after an offset.
func (p *parser) find(from int64) (boundary, error) {
	for {
		at, found, err := p.w.index(p.dashed, from)
		if err != nil {
			return boundary{}, err
		}
		if !found {
			return boundary{}, badForm(p.w.size, "the closing boundary is missing; the form may have been truncated")
		}
		before, err := p.w.slice(max(at-2, 0), int(min(at, 2)))
		if err != nil {
			return boundary{}, err
		}
		if at == 0 || string(before) == "\r\n" {
			return p.line(at)
		}
		if c := before[len(before)-1]; c == '\n' || c == '\r' {
			return boundary{}, badForm(at, "the line break before a boundary is not CR LF")
		}
		from = at + 1
	}
}

// line reads the rest of a boundary's line: "--" if it is the last one, padding, CR LF.
func (p *parser) line(at int64) (boundary, error) {
	next := at + int64(len(p.dashed))
	rest, err := p.w.slice(next, maxPadding+4)
	if err != nil {
		return boundary{}, err
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
	return boundary{}, badForm(at, "a boundary is not followed by CR LF")
}

func badForm(at int64, problem string) error { return &SyntaxError{at, problem} }

// A partHeader is what must be known of the header of a part.
type partHeader struct {
	name           string
	hasMore        bool // it has parameters besides its name, such as a filename
	encoded        bool // its content is not the value itself
	hasDisposition bool
}

// header reads the header that starts at an offset and returns the offset after it.
func (p *parser) header(at int64) (h partHeader, body int64, e error) {
	block, err := p.w.slice(at, maxPartHeader+4)
	if err != nil {
		return h, 0, err
	}
	if bytes.HasPrefix(block, []byte("\r\n")) {
		return h, at + 2, nil
	}
	end := bytes.Index(block, []byte("\r\n\r\n"))
	if end < 0 {
		return h, 0, badForm(at, "the header of a part does not end within 16 KiB")
	}
	for _, line := range strings.Split(string(block[:end]), "\r\n") {
		if strings.HasPrefix(line, string(p.dashed)) {
			return h, 0, badForm(at, "there is a boundary in the header of a part")
		}
		if problem := h.line(line); problem != "" {
			return h, 0, badForm(at, problem)
		}
	}
	return h, at + int64(end) + 4, nil
}

// line reads one line of the header. It is strict about what parsers treat differently: folded lines, spaces before the colon, lone
// CR or LF.
func (h *partHeader) line(line string) (problem string) {
	key, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(key) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "the header of a part has an invalid line"
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(key) {
	case "content-disposition":
		if h.hasDisposition {
			return "a part has more than one Content-Disposition"
		}
		h.hasDisposition = true
		return h.disposition(value)
	case "content-transfer-encoding":
		switch strings.ToLower(value) {
		case "7bit", "8bit", "binary":
		default:
			h.encoded = true
		}
	}
	return ""
}

// disposition reads the value of Content-Disposition, such as `form-data; name="file"; filename="a.wav"`.
func (h *partHeader) disposition(value string) (problem string) {
	const invalid = "the Content-Disposition of a part is not like form-data; name=\"…\""
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.Trim(kind, " \t"), "form-data") {
		return invalid
	}
	named := false
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		var key, text string
		var ok bool
		if key, text, rest, ok = parameter(rest); !ok {
			return invalid
		}
		key = strings.ToLower(key)
		if key != "name" {
			// "name*" is a name in another encoding (RFC 5987), which only some servers read.
			if strings.HasPrefix(key, "name*") {
				return "the name of a part is encoded; send it as plain text"
			}
			h.hasMore = true
			continue
		}
		if named || strings.ContainsRune(text, '\\') {
			return invalid
		}
		h.name, named = text, true
	}
	return ""
}

// parameter reads one key=value and the semicolon after it. It does not unescape quoted values.
func parameter(s string) (key, value, rest string, ok bool) {
	key, s, ok = strings.Cut(s, "=")
	if !ok || !isToken(key) {
		return "", "", "", false
	}
	if strings.HasPrefix(s, `"`) {
		end := closingQuote(s)
		if end < 0 {
			return "", "", "", false
		}
		value, rest = s[1:end], strings.TrimLeft(s[end+1:], " \t")
	} else {
		i := strings.IndexAny(s, "; \t")
		if i < 0 {
			i = len(s)
		}
		value, rest = s[:i], strings.TrimLeft(s[i:], " \t")
		if !isToken(value) {
			return "", "", "", false
		}
	}
	if rest == "" {
		return key, value, "", true
	}
	rest, ok = strings.CutPrefix(rest, ";")
	return key, value, rest, ok
}

// closingQuote returns the index of the quote that closes the one at the start of s, or -1.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return -1
}

// isToken reports whether s is a token by RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// windowSize is how much of a form is in memory at a time.
const windowSize = 64 << 10

// A window is the range of a form that is in memory.
type window struct {
	r     io.ReaderAt
	size  int64
	buf   []byte
	start int64 // offset of buf
}

// slice returns n bytes from an offset, or fewer at the end of the form. They are valid until the next call.
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

// index finds a text, which must be shorter than the window.
func (w *window) index(text []byte, from int64) (at int64, found bool, err error) {
	for w.size-from >= int64(len(text)) {
		if _, err := w.slice(from, len(text)); err != nil {
			return 0, false, err
		}
		loaded := w.buf[from-w.start:]
		if i := bytes.Index(loaded, text); i >= 0 {
			return from + int64(i), true, nil
		}
		from += int64(len(loaded) - len(text) + 1) // the text may start in the rest
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
