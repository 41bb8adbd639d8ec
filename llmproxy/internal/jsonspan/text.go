package jsonspan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// IsNull reports whether a value is null.
func IsNull(value []byte) bool { return string(value) == "null" }

// String decodes a JSON string. It returns false if the value is not a string.
func String(value []byte) (string, bool) {
	raw, ok := RawString(value)
	return string(Unescape(raw)), ok
}

// EqualString reports whether a value is a string of the given text.
func EqualString(value []byte, text string) bool {
	raw, ok := RawString(value)
	return ok && len(raw) >= len(text) && string(Unescape(raw)) == text // an escape is longer than what it stands for
}

// RawString returns what is between the quotes of a JSON string, still escaped. It returns false if the value is not a string.
func RawString(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// Unescape decodes a raw string. Without an escape in it, it returns the same bytes.
func Unescape(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return AppendUnescaped(make([]byte, 0, len(raw)), raw)
}

// AppendUnescaped appends a decoded raw string. It is safe on strings that were not validated: an invalid escape becomes U+FFFD
// or stays as it is.
func AppendUnescaped(b, raw []byte) []byte {
	for {
		escape := bytes.IndexByte(raw, '\\')
		if escape < 0 || escape+1 == len(raw) {
			return append(b, raw...)
		}
		b, raw = append(b, raw[:escape]...), raw[escape:]
		n := 2
		if raw[1] == 'u' {
			var r rune
			if r, n = unicodeEscape(raw); n == 0 {
				r, n = utf8.RuneError, min(6, len(raw))
			}
			b = utf8.AppendRune(b, r)
		} else {
			b = append(b, unescapedByte(raw[1]))
		}
		raw = raw[n:]
	}
}

func unescapedByte(escaped byte) byte {
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

// unicodeEscape decodes \uXXXX, or two of them for a surrogate pair, at the start of b. N is the length of the escape, or zero if b
// does not start with a valid one.
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

// UnescapedLen returns the length of a valid raw string once it is decoded.
func UnescapedLen(raw []byte) int {
	n := len(raw)
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return n
		}
		raw = raw[i:]
		if raw[1] != 'u' {
			n, raw = n-1, raw[2:]
			continue
		}
		r, size := unicodeEscape(raw)
		n, raw = n-size+utf8.RuneLen(r), raw[size:]
	}
}

const hexDigits = "0123456789abcdef"

// AppendString appends a JSON string. It escapes only what must be escaped, and replaces invalid UTF-8 with U+FFFD.
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

// Ambiguous reports whether some server may read a raw key as a different one: it has capitals, escapes, or letters beyond ASCII,
// two of which fold to ASCII (ſ to s, K to k).
func Ambiguous(key []byte) bool {
	for _, c := range key {
		if 'A' <= c && c <= 'Z' || c == '\\' || c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// EqualFold reports whether a raw key equals the name once it is unescaped and its case is folded. It does not allocate: one
// letter takes at most the six bytes of an escape, so a key longer than that differs. The name has at most 64 bytes.
func EqualFold(key []byte, name string) bool {
	if len(key) < len(name) || len(key) > 6*len(name) {
		return false
	}
	var text [6 * 64]byte
	return bytes.EqualFold(AppendUnescaped(text[:0], key), []byte(name))
}

// StringEnd returns the offset of the quote that ends the raw string that starts at i, or the length of the data if the string
// does not end. It does not validate the string.
func StringEnd(data []byte, i int) int {
	for i+8 <= len(data) {
		found := quoteOrBackslash(binary.LittleEndian.Uint64(data[i:]))
		if found == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(found) / 8
		if data[i] == '"' {
			return i
		}
		i += 2
	}
	for ; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return min(i, len(data))
}

// A TextCount is the size of decoded text.
type TextCount struct {
	Chars int // code points
	Bytes int // of UTF-8
}

// Add adds another count.
func (c *TextCount) Add(more TextCount) {
	c.Chars += more.Chars
	c.Bytes += more.Bytes
}

// AddString adds the raw string that starts at i and returns its end, as StringEnd does. It does not validate the string either.
func (c *TextCount) AddString(data []byte, i int) (end int) {
	for i < len(data) {
		if i = c.addPlain(data, i); i == len(data) {
			break
		}
		switch b := data[i]; {
		case b == '"':
			return i
		case b == '\\':
			i += c.addEscape(data[i:])
		default:
			c.Bytes++
			if utf8.RuneStart(b) {
				c.Chars++
			}
			i++
		}
	}
	return min(i, len(data))
}

// longText is from how many bytes on it pays to look for blocks of ASCII first. The events of a stream are shorter.
const longText = 512

// addPlain adds what precedes the next quote or backslash and returns the offset it reached. It leaves the last few bytes of
// the data to be looked at one by one. It takes sixteen bytes of ASCII at a time, or eight of anything else.
func (c *TextCount) addPlain(data []byte, from int) int {
	i, continuation := from, 0 // bytes that continue a character: 10xxxxxx
	if len(data)-from >= longText {
		i += plainBlocks(data[from:])
	}
	for i+8 <= len(data) {
		w := binary.LittleEndian.Uint64(data[i:])
		if i+16 <= len(data) && (special(w)|special(binary.LittleEndian.Uint64(data[i+8:])))&highs == 0 {
			i += 16
			continue
		}
		if found := quoteOrBackslash(w); found != 0 {
			n := bits.TrailingZeros64(found) / 8
			w &= 1<<(8*n) - 1
			continuation += bits.OnesCount64(w &^ (w << 1) & highs)
			i += n
			break
		}
		continuation += bits.OnesCount64(w &^ (w << 1) & highs)
		i += 8
	}
	c.Bytes += i - from
	c.Chars += i - from - continuation
	return i
}

// addEscape adds one escape and returns its length.
func (c *TextCount) addEscape(b []byte) int {
	c.Chars++
	r, n := unicodeEscape(b)
	if n == 0 {
		c.Bytes++
		return 2
	}
	c.Bytes += utf8.RuneLen(r)
	return n
}
