// Package canonjson brings JSON into a canonical form for cache keys: two texts have the same form exactly when they say the same.
//
// It does not decide what belongs to a key. It stands above jsonspan.
package canonjson

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

const (
	// canonDepth, canonMembers and canonSize bound the work that one text can make: what goes beyond is not worth knowing
	// again. Long strings count as 33 bytes.
	canonDepth   = 64
	canonMembers = 1 << 16
	canonSize    = 8 << 20
	// canonInline is the longest string that stands in the form itself; of longer ones their SHA-256 does.
	canonInline = 64
)

// ErrNoCanon says that a text is too deep or has too many parts to be put into its canonical form.
var ErrNoCanon = errors.New("too deep or too large for a canonical form")

// A Canon brings JSON into its canonical form: two texts have the same form exactly when they say the same. White space,
// the order of keys and the spelling of strings and numbers do not matter; numbers are compared by value, however long.
// Keys that stand twice are all kept, in their order, since servers disagree on which one counts.
//
// The form is binary and every part of it tells its own length, so that no text can be made to look like another. It is
// made in one pass. A Canon can be used again, by one goroutine at a time.
type Canon struct {
	s       jsonspan.Scanner
	form    []byte
	pairs   []canonPair // of the objects that are open, those of the innermost last
	scratch []byte
	long    hash.Hash  // of a string with escapes
	room    [1024]byte // for what these stand for
	over    bool
}

// A canonPair is a member within the form.
type canonPair struct{ start, value, end int }

// Object gives the form of an object without the members that skip names, by their keys as they stand. It is valid until
// the next call.
func (c *Canon) Object(o *jsonspan.Object, skip func(key []byte) bool) ([]byte, error) {
	c.reset(o.Body)
	c.form = append(c.form, '{')
	for _, m := range o.Members {
		if skip(m.Key.Of(o.Body)) {
			continue
		}
		pair := canonPair{start: len(c.form)}
		c.text(m.Key.Of(o.Body))
		pair.value = len(c.form)
		if c.value(m.Value.Start, 1) == jsonspan.Failed {
			break
		}
		pair.end = len(c.form)
		c.pairs = append(c.pairs, pair)
	}
	c.sort(0)
	c.form = append(c.form, '}')
	return c.result()
}

// Value gives the form of any value. It is valid until the next call.
func (c *Canon) Value(value []byte) ([]byte, error) {
	c.reset(value)
	if i := c.value(c.s.Space(0), 0); i != jsonspan.Failed {
		c.s.AtEnd(i)
	}
	return c.result()
}

func (c *Canon) reset(text []byte) {
	c.s = jsonspan.Scanner{Text: text}
	c.form, c.pairs, c.over = c.form[:0], c.pairs[:0], false
}

func (c *Canon) result() ([]byte, error) {
	if c.over {
		return nil, ErrNoCanon
	}
	return c.form, c.s.Err()
}

// tooMuch gives up.
func (c *Canon) tooMuch() int {
	c.over = true
	return jsonspan.Failed
}

func (c *Canon) value(i, depth int) int {
	if depth > canonDepth || len(c.form) > canonSize {
		return c.tooMuch()
	}
	switch first := c.s.Peek(i); first {
	case '{':
		return c.object(i, depth+1)
	case '[':
		return c.array(i, depth+1)
	case '"':
		end := c.s.String(i)
		if end != jsonspan.Failed {
			c.text(c.s.Text[i+1 : end-1])
		}
		return end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		end := c.s.Number(i)
		if end != jsonspan.Failed {
			c.number(c.s.Text[i:end])
		}
		return end
	default:
		c.form = append(c.form, first) // t, f, n; anything else fails
		return c.s.Value(i, depth)
	}
}

func (c *Canon) array(i, depth int) int {
	c.form = append(c.form, '[')
	if i = c.s.Space(i + 1); c.s.Peek(i) == ']' {
		c.form = append(c.form, ']')
		return i + 1
	}
	for {
		if i = c.value(i, depth); i == jsonspan.Failed {
			return jsonspan.Failed
		}
		switch i = c.s.Space(i); c.s.Peek(i) {
		case ',':
			i = c.s.Space(i + 1)
		case ']':
			c.form = append(c.form, ']')
			return i + 1
		default:
			return c.s.Fail(i, "a comma or a closing bracket is expected")
		}
	}
}

func (c *Canon) object(i, depth int) int {
	c.form = append(c.form, '{')
	first := len(c.pairs)
	i = c.s.Space(i + 1)
	for c.s.Peek(i) != '}' {
		if i = c.member(i, depth); i == jsonspan.Failed {
			return jsonspan.Failed
		}
		i = c.s.Space(i)
		if c.s.Peek(i) == '}' {
			break
		}
		if c.s.Peek(i) != ',' {
			return c.s.Fail(i, "a comma or a closing brace is expected")
		}
		if i = c.s.Space(i + 1); c.s.Peek(i) != '"' {
			return c.s.Fail(i, "a key in double quotes is expected")
		}
	}
	c.sort(first)
	c.form = append(c.form, '}')
	return i + 1
}

func (c *Canon) member(i, depth int) int {
	if c.s.Peek(i) != '"' {
		return c.s.Fail(i, "a key in double quotes is expected")
	}
	if len(c.pairs) == canonMembers {
		return c.tooMuch()
	}
	key := i + 1
	if i = c.s.String(i); i == jsonspan.Failed {
		return jsonspan.Failed
	}
	pair := canonPair{start: len(c.form)}
	c.text(c.s.Text[key : i-1])
	pair.value = len(c.form)
	if i = c.s.Space(i); c.s.Peek(i) != ':' {
		return c.s.Fail(i, "a colon is expected behind a key")
	}
	if i = c.value(c.s.Space(i+1), depth); i == jsonspan.Failed {
		return jsonspan.Failed
	}
	pair.end = len(c.form)
	c.pairs = append(c.pairs, pair)
	return i
}

// sort brings the members of the object that just ended, from pair first on, into the order of their keys.
func (c *Canon) sort(first int) {
	pairs := c.pairs[first:]
	c.pairs = c.pairs[:first]
	byKey := func(a, b canonPair) int { return bytes.Compare(c.form[a.start:a.value], c.form[b.start:b.value]) }
	if slices.IsSortedFunc(pairs, byKey) {
		return
	}
	start := pairs[0].start
	slices.SortStableFunc(pairs, byKey)
	c.scratch = append(c.scratch[:0], c.form[start:]...)
	c.form = c.form[:start]
	for _, p := range pairs {
		c.form = append(c.form, c.scratch[p.start-start:p.end-start]...)
	}
}

// number appends a number by its value: its digits without the zeros around them, and the power of ten they stand at. A
// power that no 64 bits hold is left as it is spelled.
func (c *Canon) number(raw []byte) {
	mark := len(c.form)
	c.form = append(c.form, 'd', 0, 0, 0, 0)
	body := len(c.form)
	if raw[0] == '-' {
		c.form, raw = append(c.form, '-'), raw[1:]
	}
	digits := len(c.form)
	mantissa, power, ok := splitExponent(raw)
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	c.form = append(c.form, bytes.TrimLeft(whole, "0")...)
	c.form = append(c.form, fraction...)
	if len(c.form)-digits == len(fraction) {
		significant := bytes.TrimLeft(fraction, "0")
		c.form = append(c.form[:digits], significant...)
	}
	power -= int64(len(fraction))
	significant := bytes.TrimRight(c.form[digits:], "0")
	power += int64(len(c.form) - digits - len(significant))
	c.form = c.form[:digits+len(significant)]
	switch {
	case len(significant) == 0:
		c.form, power = append(c.form[:body], '0'), 0 // minus nothing is nothing
	case !ok:
		c.form[mark], c.form = 'D', append(c.form[:digits], raw...)
	}
	if c.form[mark] == 'd' {
		c.form = binary.AppendVarint(append(c.form, 'e'), power)
	}
	binary.BigEndian.PutUint32(c.form[mark+1:], uint32(len(c.form)-body))
}

// splitExponent cuts a number before its exponent; ok is false if that is too large to be reckoned with.
func splitExponent(raw []byte) (mantissa []byte, power int64, ok bool) {
	i := bytes.IndexAny(raw, "eE")
	if i < 0 {
		return raw, 0, true
	}
	sign := int64(1)
	digits := raw[i+1:]
	switch digits[0] {
	case '-':
		sign, digits = -1, digits[1:]
	case '+':
		digits = digits[1:]
	}
	digits = bytes.TrimLeft(digits, "0")
	if len(digits) > 15 {
		return raw[:i], 0, false
	}
	for _, d := range digits {
		power = power*10 + int64(d-'0')
	}
	return raw[:i], sign * power, true
}

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
		if plain := jsonspan.AppendUnescaped(c.room[:0], raw); len(plain) <= canonInline {
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
			out, raw = jsonspan.AppendUnescaped(out, raw[:n]), raw[n:]
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
	_, n := jsonspan.UnicodeEscape(raw)
	return n
}
