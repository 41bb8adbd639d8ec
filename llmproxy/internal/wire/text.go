package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// String decodes a JSON string; false if the value is none.
func String(value []byte) (string, bool) {
	inside, ok := inside(value)
	return string(unescape(inside)), ok
}

// says tells whether a value is a string of that text.
func says(value []byte, text string) bool {
	raw, ok := inside(value)
	return ok && string(unescape(raw)) == text
}

// inside takes the quotes off a string.
func inside(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// unescape gives the text of a string's inside. Without an escape it is the bytes themselves.
func unescape(inside []byte) []byte {
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside
	}
	return appendUnescaped(make([]byte, 0, len(inside)), inside)
}

// appendUnescaped is safe on strings that nobody checked; what is no escape becomes U+FFFD or stays as it is.
func appendUnescaped(b, inside []byte) []byte {
	for i := 0; i < len(inside); {
		switch {
		case inside[i] != '\\' || i+1 == len(inside):
			b = append(b, inside[i])
			i++
		case inside[i+1] == 'u':
			r, n := unicodeEscape(inside[i:])
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

// unicodeEscape reads \uXXXX, or two of them for a surrogate pair, at the start of b; n is zero if it is none.
func unicodeEscape(b []byte) (r rune, n int) {
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
func appendString(b []byte, s string) []byte {
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
