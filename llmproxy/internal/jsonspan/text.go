package jsonspan

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// String decodes a JSON string; false if the value is none.
func String(value []byte) (string, bool) {
	inside, ok := Inside(value)
	return string(Unescape(inside)), ok
}

// says tells whether a value is a string of that text.
func Is(value []byte, text string) bool {
	raw, ok := Inside(value)
	return ok && string(Unescape(raw)) == text
}

// inside takes the quotes off a string.
func Inside(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// unescape gives the text of a string's inside. Without an escape it is the bytes themselves.
func Unescape(inside []byte) []byte {
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside
	}
	return AppendUnescaped(make([]byte, 0, len(inside)), inside)
}

// appendUnescaped is safe on strings that nobody checked; what is no escape becomes U+FFFD or stays as it is.
func AppendUnescaped(b, inside []byte) []byte {
	for i := 0; i < len(inside); {
		switch {
		case inside[i] != '\\' || i+1 == len(inside):
			b = append(b, inside[i])
			i++
		case inside[i+1] == 'u':
			r, n := UnicodeEscape(inside[i:])
			if n == 0 {
				r, n = utf8.RuneError, min(6, len(inside)-i)
			}
			b = utf8.AppendRune(b, r)
			i += n
		default:
			b = append(b, meaning(inside[i+1]))
			i += 2
		}
	}
	return b
}

func meaning(escaped byte) byte {
	switch escaped {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return escaped
}

// UnicodeEscape reads \uXXXX, or two of them for a surrogate pair, at the start of b; n is zero if it is none.
func UnicodeEscape(b []byte) (r rune, n int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, ok := hex4(b[6:])
	if !ok {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string; only what must be escaped is, and what is not UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}

// Ambiguous reports whether a key can mean another one than it spells: it has capitals, escapes or letters beyond ASCII, two of
// which fold to ASCII (ſ to s, K to k).
func Ambiguous(key []byte) bool {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' || c == '\\' || c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// KeyMeans reports whether a raw key means the name once it is unescaped and folded. It does not allocate: an escape takes
// at most six bytes for one, so that a key of more than that is another one.
func KeyMeans(key []byte, name string) bool {
	if len(key) < len(name) || len(key) > 6*len(name) {
		return false
	}
	var text [6 * 64]byte
	return bytes.EqualFold(AppendUnescaped(text[:0], key), []byte(name))
}

var (
	errNoObject = errors.New("not a JSON object")
	errNoArray  = errors.New("not a JSON array")
)

// EachMember visits the members of an object, keys without their quotes and as they stand, until visit returns false. It is
// safe on any bytes and allocates nothing. What it did not come to it did not check.
func EachMember(object []byte, visit func(key, value []byte) bool) error {
	s := Scanner{Text: object}
	i := s.Space(0)
	if s.Peek(i) != '{' {
		return errNoObject
	}
	s.Object(i, 1, func(m Member) bool { return visit(m.Key.Of(object), m.Value.Of(object)) })
	return s.Err()
}

// EachElement visits the elements of an array until visit returns false; otherwise it is like EachMember.
func EachElement(array []byte, visit func(value []byte) bool) error {
	s := Scanner{Text: array}
	i := s.Space(0)
	if s.Peek(i) != '[' {
		return errNoArray
	}
	s.Array(i, 1, func(element Span) bool { return visit(element.Of(array)) })
	return s.Err()
}

// null tells whether a value says nothing.
func IsNull(value []byte) bool { return string(value) == "null" }
