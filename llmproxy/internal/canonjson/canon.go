// Package canonjson converts JSON into a canonical form for cache keys: texts that mean different things never have the same form, and texts
// that mean the same have the same form, unless a member of the object is so large that its spelling counts.
//
// It does not decide what belongs in a key. It stands above jsonspan.
package canonjson

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

const (
	// maxDepth, maxMembers and maxSize bound the work for one text. What exceeds them is not worth caching. A long string counts
	// as 33 bytes.
	maxDepth   = 64
	maxMembers = 1 << 16
	maxSize    = 8 << 20
	// maxInline is the longest string that is part of the form. A longer one is replaced by its SHA-256.
	maxInline = 64
	// maxCanonical is the largest value of a member, in bytes, that Object converts. A larger one counts as it is spelled.
	maxCanonical = 32 << 10
	// maxScratch is how much memory for decoded strings an encoder keeps.
	maxScratch = 1 << 20
)

// ErrTooLarge means that a text is nested too deeply or has too many parts for a canonical form.
var ErrTooLarge = errors.New("too deep or too large for a canonical form")

// An Encoder converts JSON into its canonical form. White space, the order of keys, and the spelling of strings and numbers do
// not matter; numbers are compared by value, however long they are. Repeated keys are all kept, in their order, because servers
// disagree on which one counts.
//
// The form is binary, and every part of it is prefixed with its type and length, so that no text can imitate another. It is
// made in one pass. An encoder can be used again, by one goroutine at a time.
type Encoder struct {
	scanner  jsonspan.Scanner
	form     []byte
	members  []member // of the open objects, those of the innermost one last
	scratch  []byte
	tooLarge bool
}

// A member is where a key and its value are within the form.
type member struct{ start, value, end int }

// Object returns the form of an object, which was scanned, without the members for whose raw keys skip returns true. It is valid until the
// next call.
//
// A value of more than 32 KiB, such as a long conversation, is part of the form as its SHA-256, as it is spelled. Its form would take ten
// times as long, and gain nothing: a client that sends the same request again spells it the same way. So white space, the order of keys, and
// the spelling of strings and numbers matter within it.
func (e *Encoder) Object(o *jsonspan.Object, skip func(key []byte) bool) ([]byte, error) {
	e.reset(o.Body)
	e.form = append(e.form, '{')
	for _, m := range o.Members {
		switch {
		case skip(m.Key.Of(o.Body)):
		case m.Value.End-m.Value.Start > maxCanonical:
			e.verbatim(m)
		case e.member(m.Key, m.Value.Start, 1) == jsonspan.Failed:
			return e.result()
		}
	}
	e.sort(0)
	e.form = append(e.form, '}')
	return e.result()
}

// Value returns the form of any value. It is valid until the next call.
func (e *Encoder) Value(value []byte) ([]byte, error) {
	e.reset(value)
	if i := e.value(e.scanner.Space(0), 0); i != jsonspan.Failed {
		e.scanner.End(i)
	}
	return e.result()
}

func (e *Encoder) reset(text []byte) {
	e.scanner = jsonspan.Scanner{Text: text}
	e.form, e.members, e.tooLarge = e.form[:0], e.members[:0], false
	if cap(e.scratch) > maxScratch {
		e.scratch = nil
	}
}

func (e *Encoder) result() ([]byte, error) {
	if e.tooLarge {
		return nil, ErrTooLarge
	}
	return e.form, e.scanner.Err()
}

func (e *Encoder) giveUp() int {
	e.tooLarge = true
	return jsonspan.Failed
}

// value appends the value that starts at i. Like the scanner's methods, it returns the offset after it.
func (e *Encoder) value(i, depth int) int {
	if depth > maxDepth || len(e.form) > maxSize {
		return e.giveUp()
	}
	text := e.scanner.Text
	if i >= len(text) {
		return e.scanner.Value(i, depth) // which fails
	}
	switch first := text[i]; first {
	case '{':
		return e.object(i, depth+1)
	case '[':
		e.form = append(e.form, '[')
		end := e.scanner.Array(i, depth+1, func(value int) int { return e.value(value, depth+1) })
		e.form = append(e.form, ']')
		return end
	case '"':
		end := e.scanner.String(i)
		if end != jsonspan.Failed {
			e.text(text[i+1 : end-1])
		}
		return end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		end := e.scanner.Number(i)
		if end != jsonspan.Failed {
			e.number(text[i:end])
		}
		return end
	default:
		e.form = append(e.form, first) // t, f or n; anything else fails
		return e.scanner.Value(i, depth)
	}
}

func (e *Encoder) object(i, depth int) int {
	e.form = append(e.form, '{')
	first := len(e.members)
	end := e.scanner.Object(i, depth, func(key jsonspan.Span, value int) int { return e.member(key, value, depth) })
	if end != jsonspan.Failed {
		e.sort(first)
	}
	e.form = append(e.form, '}')
	return end
}

func (e *Encoder) member(key jsonspan.Span, value, depth int) (end int) {
	if len(e.members) == maxMembers {
		return e.giveUp()
	}
	m := member{start: len(e.form)}
	e.text(key.Of(e.scanner.Text))
	m.value = len(e.form)
	if end = e.value(value, depth); end != jsonspan.Failed {
		m.end = len(e.form)
		e.members = append(e.members, m)
	}
	return end
}

// verbatim appends a member whose value counts as it is spelled.
func (e *Encoder) verbatim(m jsonspan.Member) {
	start := len(e.form)
	e.text(m.Key.Of(e.scanner.Text))
	value := len(e.form)
	sum := sha256.Sum256(m.Value.Of(e.scanner.Text))
	e.form = append(append(e.form, 'V'), sum[:]...)
	e.members = append(e.members, member{start, value, len(e.form)})
}

// sort sorts the members of the object that just ended, from index first on, by their keys.
func (e *Encoder) sort(first int) {
	members := e.members[first:]
	e.members = e.members[:first]
	byKey := func(a, b member) int { return bytes.Compare(e.form[a.start:a.value], e.form[b.start:b.value]) }
	if slices.IsSortedFunc(members, byKey) {
		return
	}
	start := members[0].start
	slices.SortStableFunc(members, byKey)
	e.scratch = append(e.scratch[:0], e.form[start:]...)
	e.form = e.form[:start]
	for _, m := range members {
		e.form = append(e.form, e.scratch[m.start-start:m.end-start]...)
	}
}

// text appends a raw string: itself if it is short, else its hash.
func (e *Encoder) text(raw []byte) {
	text := raw
	if bytes.IndexByte(raw, '\\') >= 0 {
		e.scratch = jsonspan.AppendUnescaped(e.scratch[:0], raw)
		text = e.scratch
	}
	if len(text) <= maxInline {
		e.form = append(append(e.form, 's', byte(len(text))), text...)
		return
	}
	sum := sha256.Sum256(text)
	e.form = append(append(e.form, 'S'), sum[:]...)
}

// number appends a number by its value: its digits without leading and trailing zeros, and the power of ten of the last one. An
// exponent that does not fit into 64 bits is kept as it is spelled.
func (e *Encoder) number(raw []byte) {
	header := len(e.form)
	e.form = append(e.form, 'd', 0, 0, 0, 0)
	body := len(e.form)
	if raw[0] == '-' {
		e.form, raw = append(e.form, '-'), raw[1:]
	}
	digits := len(e.form)
	mantissa, power, ok := splitExponent(raw)
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	e.form = append(e.form, bytes.TrimLeft(whole, "0")...)
	e.form = append(e.form, fraction...)
	if len(e.form)-digits == len(fraction) {
		e.form = append(e.form[:digits], bytes.TrimLeft(fraction, "0")...)
	}
	power -= int64(len(fraction))
	significant := bytes.TrimRight(e.form[digits:], "0")
	power += int64(len(e.form) - digits - len(significant))
	e.form = e.form[:digits+len(significant)]
	switch {
	case len(significant) == 0:
		e.form, power = append(e.form[:body], '0'), 0 // -0 equals 0
	case !ok:
		e.form[header], e.form = 'D', append(e.form[:digits], raw...)
	}
	if e.form[header] == 'd' {
		e.form = binary.AppendVarint(append(e.form, 'e'), power)
	}
	binary.BigEndian.PutUint32(e.form[header+1:], uint32(len(e.form)-body))
}

// splitExponent cuts a number before its exponent. It returns false if the exponent is too large to calculate with.
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
