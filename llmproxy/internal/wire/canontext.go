package wire

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// text appends a string, given as it stands between its quotes.
func (c *Canon) text(raw []byte) {
	if len(raw) <= 6*canonInline { // an escape takes at most six bytes for one
		var room [6 * canonInline]byte
		plain := raw
		if bytes.IndexByte(raw, '\\') >= 0 {
			plain = appendUnescaped(room[:0], raw)
		}
		if len(plain) <= canonInline {
			c.form = append(c.form, 's', byte(len(plain)))
			c.form = append(c.form, plain...)
			return
		}
	}
	if c.long == nil {
		c.long = sha256.New()
	}
	c.long.Reset()
	writeUnescaped(c.long, raw)
	c.form = c.long.Sum(append(c.form, 'S'))
}

// writeUnescaped hashes a string without holding it a second time.
func writeUnescaped(h hash.Hash, raw []byte) {
	const longestEscape = 12 // two halves of a surrogate pair
	var room [1024]byte
	out := room[:0]
	for len(raw) > 0 {
		run := bytes.IndexByte(raw, '\\')
		if run < 0 {
			run = len(raw)
		}
		if len(out)+run+utf8Max > len(room) {
			h.Write(out)
			out = room[:0]
			if run+utf8Max > len(room) {
				h.Write(raw[:run])
				raw, run = raw[run:], 0
			}
		}
		out, raw = append(out, raw[:run]...), raw[run:]
		if len(raw) > 0 {
			n := escapeLen(raw[:min(len(raw), longestEscape)])
			out, raw = appendUnescaped(out, raw[:n]), raw[n:]
		}
	}
	h.Write(out)
}

const utf8Max = 4

// escapeLen is the length of the escape that a checked string begins with.
func escapeLen(raw []byte) int {
	if raw[1] != 'u' {
		return 2
	}
	_, n := unicodeEscape(raw)
	return n
}
