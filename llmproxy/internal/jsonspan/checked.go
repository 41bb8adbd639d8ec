package jsonspan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// ScanChecked is Scan for a text that is known to be one JSON object, such as one that was made of parts of such texts. It does not
// validate it again.
func (o *Object) ScanChecked(body []byte) {
	o.Body, o.Members, o.Close = body, o.Members[:0], bytes.LastIndexByte(body, '}')
	eachMember(body, func(key, value Span) bool {
		if o.Members == nil {
			o.Members = make([]Member, 0, usualMembers)
		}
		o.Members = append(o.Members, Member{key, value})
		return true
	})
}

// Members calls visit for the members of an object until it returns false, and reports whether the text is an object. It is for text that
// was validated before: it does not do so again, which makes it several times as fast as EachMember. It is safe on any bytes, but does not
// say where they are invalid.
func Members(object []byte, visit func(key, value []byte) bool) bool {
	return eachMember(object, func(key, value Span) bool { return visit(key.Of(object), value.Of(object)) })
}

func eachMember(object []byte, visit func(key, value Span) bool) bool {
	t := Checked(object)
	i := skipSpace(t, 0)
	if i >= len(t) || t[i] != '{' {
		return false
	}
	for i, more := t.Enter(i); more; {
		key, value, _ := t.key(i)
		end := t.End(value)
		if end <= value || !visit(key, Span{value, end}) {
			break
		}
		i, more = t.Next(end)
	}
	return true
}

// Elements calls visit for the elements of an array until it returns false, and reports whether the text is an array. Otherwise it is like
// Members.
func Elements(array []byte, visit func(value []byte) bool) bool {
	t := Checked(array)
	i := skipSpace(t, 0)
	if i >= len(t) || t[i] != '[' {
		return false
	}
	for i, more := t.Enter(i); more; {
		end := t.End(i)
		if end <= i || !visit(t[i:end]) {
			break
		}
		i, more = t.Next(end)
	}
	return true
}

// Checked is text that was validated before. Its methods do not do so again. They are for loops that run a hundred thousand times, in which
// the calls of a visitor would cost as much as everything else:
//
//	for i, more := t.Enter(i); more; {
//		key, value := t.Key(i) // of an object
//		end := t.End(value)
//		i, more = t.Next(end)
//	}
//
// Each takes the offset at which something starts. They are safe on any bytes.
type Checked []byte

// Enter returns the offset of the first member or element of the object or array at i. If that is empty, it returns the offset after it, and
// false.
func (t Checked) Enter(i int) (first int, more bool) {
	if i = skipSpace(t, i+1); i >= len(t) {
		return len(t), false
	}
	if t[i] == '}' || t[i] == ']' {
		return i + 1, false
	}
	return i, true
}

// Next returns the offset of the member or element after the one that ends at i. After the last, it returns the offset after the object or
// array, and false.
func (t Checked) Next(i int) (next int, more bool) {
	if i = skipSpace(t, i); i >= len(t) {
		return len(t), false
	}
	if t[i] != ',' {
		return i + 1, false
	}
	return skipSpace(t, i+1), true
}

// Key returns the key of the member at i, unescaped, and the offset of its value. It allocates only if there are escapes in the key.
func (t Checked) Key(i int) (key []byte, value int) {
	raw, value, escaped := t.key(i)
	if escaped {
		return Unescape(raw.Of(t)), value
	}
	return raw.Of(t), value
}

// key returns the raw key of the member at i, without its quotes, and whether there may be escapes in it.
func (t Checked) key(i int) (raw Span, value int, escaped bool) {
	end := i
	if i < len(t) && t[i] == '"' {
		end, escaped = t.String(i)
	}
	colon := skipSpace(t, end)
	return Span{min(i+1, end), max(i, end-1)}, skipSpace(t, min(colon+1, len(t))), escaped
}

// End returns the offset after the value at i, or i if no value starts there.
func (t Checked) End(i int) int {
	if i < len(t) && t[i] == '"' {
		end, _ := t.String(i)
		return end
	}
	return skipValue(t, i)
}

// String returns the offset after the string whose opening quote is at i. Escaped reports whether there may be escapes in it.
func (t Checked) String(i int) (end int, escaped bool) {
	if p := t[i+1:]; len(p) >= 16 { // keys, roles and the like are short
		n, found := 0, quoteOrBackslash(binary.LittleEndian.Uint64(p))
		if found == 0 {
			n, found = 8, quoteOrBackslash(binary.LittleEndian.Uint64(p[8:]))
		}
		if n += bits.TrailingZeros64(found) / 8; found != 0 && p[n&15] == '"' {
			return i + n + 2, false
		}
	}
	return skipString(t, i), true
}

// skipSpace returns the offset of the next byte from i that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' {
		i++
	}
	return i
}

// skipString returns the offset after the string whose opening quote is at i. Quotes are searched for, because that is what a processor does
// fastest.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			break
		}
		slash := i + n
		for slash > i && b[slash-1] == '\\' {
			slash--
		}
		i += n
		if (i-slash)%2 == 0 { // each pair of backslashes is one in the text
			return i + 1
		}
	}
	return len(b)
}

// skipValue returns the offset after the value at i, or i if no value starts there.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i, _ = Checked(b).String(i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth--; depth < 0 { // it belongs to what contains the value
				return i
			}
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			for i++; i < len(b) && plain[b[i]]; i++ { // a number or a literal
			}
		}
		if depth == 0 {
			return i
		}
	}
	return min(i, len(b))
}

// plain is the set of bytes that numbers and literals consist of.
var plain = func() (is [256]bool) {
	for c := range is {
		is[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.'
	}
	return is
}()
