// Package formdata reads multipart forms (RFC 7578) in place: it finds the parts of a form that need not fit into memory, so that
// one of them can be replaced without touching the rest.
//
// The framing is RFC 2046's, with the preamble, padding and epilogue that it allows. Servers are more tolerant than that, each in its
// own way, so what one could take for a boundary and another could not is refused. It does not know what a part means: openai does. It
// stands on the lowest floor.
package formdata

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Span is a part of something too large for memory, in bytes.
type Span struct{ Start, End int64 }

// A Part is a part of a form, but for its content.
type Part struct {
	Name string
	// Plain reports whether the content is the value itself: there is no filename and no encoding.
	Plain bool
	Value Span
}

const (
	maxPartHeader = 16 << 10
	maxParts      = 1000
	maxPadding    = 64
)

// A SyntaxError is a form that cannot be read, and where.
type SyntaxError struct {
	Offset int64
	Msg    string
}

// Error says what is wrong.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (byte %d)", e.Msg, e.Offset) }

var (
	// ErrBoundary means that the boundary of the Content-Type is not valid.
	ErrBoundary = errors.New("the boundary takes 1 to 70 letters, digits or '()+_,-./:=? characters")
	// ErrUnreadable means that the form could not be read back.
	ErrUnreadable = errors.New("the form could not be read back")
)

// Read visits the parts of a form in their order, without keeping it in memory. The visitor may read the content of a part, of
// which it gets n bytes at most; its error ends the reading.
func Read(r io.ReaderAt, size int64, boundary string, visit func(p Part, content func(n int) ([]byte, error)) error) error {
	if !validBoundary(boundary) {
		return ErrBoundary
	}
	p := parser{w: window{r: r, size: size}, dashed: []byte("--" + boundary), visit: visit}
	return p.parse()
}

// validBoundary holds to RFC 2046 §5.1.1.
func validBoundary(b string) bool {
	return len(b) > 0 && len(b) <= 70 && b[len(b)-1] != ' ' &&
		strings.Trim(b, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'()+_,-./:=? ") == ""
}

type parser struct {
	w      window
	dashed []byte // two dashes and the boundary
	visit  func(Part, func(int) ([]byte, error)) error
}

// A boundary is a line that ends a part, or the preamble.
type boundary struct {
	start int64 // where what it ends is over: before the line end that belongs to the boundary
	next  int64 // behind its line
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
		return ErrUnreadable
	} else if found {
		return badForm(at, "its boundary stands again behind its end")
	}
	return nil
}

// part reads the part that begins at an offset with its header, up to the boundary that ends it.
func (p *parser) part(at int64) (boundary, error) {
	h, body, err := p.header(at)
	if err != nil {
		return boundary{}, err
	}
	end, err := p.find(body)
	if err != nil {
		return boundary{}, err
	}
	// A boundary that follows at once on the header shares the header's line end.
	return end, p.note(h, Span{body, max(body, end.start)})
}

// find gives the first boundary from an offset on.
func (p *parser) find(from int64) (boundary, error) {
	for {
		at, found, err := p.w.index(p.dashed, from)
		if err != nil {
			return boundary{}, ErrUnreadable
		}
		if !found {
			return boundary{}, badForm(p.w.size, "its closing boundary is missing: was it cut off?")
		}
		before, err := p.w.slice(max(at-2, 0), int(min(at, 2)))
		if err != nil {
			return boundary{}, ErrUnreadable
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
func (p *parser) line(at int64) (boundary, error) {
	next := at + int64(len(p.dashed))
	rest, err := p.w.slice(next, maxPadding+4)
	if err != nil {
		return boundary{}, ErrUnreadable
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

// note tells the visitor of a part.
func (p *parser) note(h partHeader, at Span) error {
	part := Part{Name: h.name, Plain: !h.more && !h.encoded, Value: at}
	return p.visit(part, func(n int) ([]byte, error) {
		content, err := p.w.slice(at.Start, int(min(int64(n), at.End-at.Start)))
		if err != nil {
			return nil, ErrUnreadable
		}
		return content, nil
	})
}

func badForm(at int64, problem string) error { return &SyntaxError{at, problem} }

// A partHeader is what the header of a form's part says.
type partHeader struct {
	name    string
	more    bool // it has other parameters than its name, such as a filename
	encoded bool // its body is not the value itself
	seen    bool // it has a Content-Disposition
}

// header reads the header that begins at an offset, and gives the offset behind it.
func (p *parser) header(at int64) (h partHeader, body int64, e error) {
	block, err := p.w.slice(at, maxPartHeader+4)
	if err != nil {
		return h, 0, ErrUnreadable
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
			return h, 0, badForm(at, "a boundary stands in the header of a part")
		}
		if problem := h.line(line); problem != "" {
			return h, 0, badForm(at, problem)
		}
	}
	return h, at + int64(end) + 4, nil
}

// line takes one line of the header. It is strict where parsers differ: folded lines, spaces before the colon, lone line
// ends.
func (h *partHeader) line(line string) (problem string) {
	key, value, ok := strings.Cut(line, ":")
	if !ok || !token(key) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "the header of a part has a line that is none"
	}
	value = strings.Trim(value, " \t")
	switch strings.ToLower(key) {
	case "content-disposition":
		if h.seen {
			return "a part has more than one Content-Disposition"
		}
		h.seen = true
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

// disposition reads what follows on Content-Disposition, such as `form-data; name="file"; filename="a.wav"`.
func (h *partHeader) disposition(value string) (problem string) {
	const unclear = "the Content-Disposition of a part is not like form-data; name=\"…\""
	kind, rest, _ := strings.Cut(value, ";")
	if !strings.EqualFold(strings.Trim(kind, " \t"), "form-data") {
		return unclear
	}
	named := false
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		var key, text string
		var ok bool
		if key, text, rest, ok = parameter(rest); !ok {
			return unclear
		}
		key = strings.ToLower(key)
		if key != "name" {
			// "name*" is a name in another encoding (RFC 5987), which some servers read and others do not.
			if strings.HasPrefix(key, "name*") {
				return "the name of a part is encoded: send it plainly"
			}
			h.more = true
			continue
		}
		if named || strings.ContainsRune(text, '\\') {
			return unclear
		}
		h.name, named = text, true
	}
	return ""
}

// parameter reads one key=value with the semicolon behind it. A quoted value is given as it stands between its quotes.
func parameter(s string) (key, value, rest string, ok bool) {
	key, s, ok = strings.Cut(s, "=")
	if !ok || !token(key) {
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
		if !token(value) {
			return "", "", "", false
		}
	}
	if rest == "" {
		return key, value, "", true
	}
	rest, ok = strings.CutPrefix(rest, ";")
	return key, value, rest, ok
}

// closingQuote finds the quote that ends the one at the start of s.
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

// token holds to RFC 9110 §5.6.2.
func token(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// WindowSize is how much of a form is in memory at a time.
const WindowSize = 64 << 10

// A window is the part of a form that is in memory.
type window struct {
	r     io.ReaderAt
	size  int64
	buf   []byte
	start int64 // the offset of buf
}

// slice gives n bytes from an offset, fewer only at the end of the form. They are valid until the next call.
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

// index finds a text that is shorter than the window.
func (w *window) index(text []byte, from int64) (at int64, found bool, err error) {
	for w.size-from >= int64(len(text)) {
		if _, err := w.slice(from, len(text)); err != nil {
			return 0, false, err
		}
		loaded := w.buf[from-w.start:]
		if i := bytes.Index(loaded, text); i >= 0 {
			return from + int64(i), true, nil
		}
		from += int64(len(loaded) - len(text) + 1) // the text may begin in what is left
	}
	return 0, false, nil
}

func (w *window) load(at int64) error {
	n := int(min(WindowSize, w.size-at))
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
