package wire

import (
	"bytes"
	"strings"
)

// A partHeader is what the header of a form's part says.
type partHeader struct {
	name    string
	more    bool // it has other parameters than its name, such as a filename
	encoded bool // its body is not the value itself
	seen    bool // it has a Content-Disposition
}

// header reads the header that begins at an offset, and gives the offset behind it.
func (p *formParser) header(at int64) (h partHeader, body int64, e *Error) {
	block, err := p.w.slice(at, maxPartHeader+4)
	if err != nil {
		return h, 0, unreadable()
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
