package wire

import (
	"bytes"
	"crypto/sha256"
)

// text appends a string, given as it stands between its quotes.
func (c *Canon) text(raw []byte) {
	if bytes.IndexByte(raw, '\\') >= 0 {
		c.escapedText(raw)
		return
	}
	if len(raw) <= canonInline {
		c.short(raw)
		return
	}
	sum := sha256.Sum256(raw)
	c.form = append(append(c.form, 'S'), sum[:]...)
}

// short appends a string of at most canonInline bytes.
func (c *Canon) short(plain []byte) {
	c.form = append(append(c.form, 's', byte(len(plain))), plain...)
}

func (c *Canon) escapedText(raw []byte) {
	if len(raw) <= 6*canonInline { // an escape takes at most six bytes for one
		if plain := appendUnescaped(c.room[:0], raw); len(plain) <= canonInline {
			c.short(plain)
			return
		}
	}
	if c.long == nil {
		c.long = sha256.New()
	}
	c.long.Reset()
	c.hash(raw)
	c.form = c.long.Sum(append(c.form, 'S'))
}

// hash hashes a string without holding it a second time.
func (c *Canon) hash(raw []byte) {
	const longestEscape = 12 // two halves of a surrogate pair
	out := c.room[:0]
	for len(raw) > 0 {
		run := bytes.IndexByte(raw, '\\')
		if run < 0 {
			run = len(raw)
		}
		if len(out)+run+utf8Max > len(c.room) {
			c.long.Write(out)
			out = c.room[:0]
			if run+utf8Max > len(c.room) {
				c.long.Write(raw[:run])
				raw, run = raw[run:], 0
			}
		}
		out, raw = append(out, raw[:run]...), raw[run:]
		if len(raw) > 0 {
			n := escapeLen(raw[:min(len(raw), longestEscape)])
			out, raw = appendUnescaped(out, raw[:n]), raw[n:]
		}
	}
	c.long.Write(out)
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
