package openai

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// TextCount is how much text an answer has.
type TextCount struct {
	Chars int // characters: code points
	Bytes int // of UTF-8
}

// Add adds what was said next.
func (s *TextCount) Add(more TextCount) {
	s.Chars += more.Chars
	s.Bytes += more.Bytes
}

// The ends of the keys whose strings are what a model said, as little-endian words: content and reasoning_content,
// reasoning, arguments of tools, text, the deltas of the Responses API, refusals.
var (
	contentEnd   = binary.LittleEndian.Uint64([]byte(`content"`))
	reasoningEnd = binary.LittleEndian.Uint64([]byte(`asoning"`))
	argumentsEnd = binary.LittleEndian.Uint64([]byte(`guments"`))
	refusalEnd   = binary.LittleEndian.Uint64([]byte(`refusal"`))
	textKey      = binary.LittleEndian.Uint64([]byte("\x00\x00\"text\"")) >> 16
	deltaKey     = binary.LittleEndian.Uint64([]byte("\x00\"delta\"")) >> 8
)

// CountText counts the text in a whole answer, or in an event of any shape. It looks at what stands around each colon
// instead of parsing; a colon inside a string cannot have a key before it, whose quote would be escaped.
func CountText(data []byte) (said TextCount) {
	for i := 0; i < len(data); {
		if i = nextColon(data, i); i < len(data) {
			i = said.at(data, i)
		}
	}
	return said
}

// texts reports whether an event may add to what was said. The events of the Responses API that end a part repeat all of it.
func (f Framing) texts(name []byte) bool {
	return f == Chunks || bytes.HasSuffix(name, []byte(".delta"))
}

// nextColon finds the first colon from i on, or the end.
func nextColon(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		x := binary.LittleEndian.Uint64(data[i:]) ^ ones*':'
		if found := (x - ones) &^ x & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(data) && data[i] != ':'; i++ {
	}
	return i
}

// at counts the string behind a colon, if its key says that it is text, and gives the place to look on from.
func (s *TextCount) at(data []byte, colon int) int {
	end := colon
	for end > 8 && data[end-1] == ' ' {
		end--
	}
	if end < 8 || !isTextKey(binary.LittleEndian.Uint64(data[end-8:])) {
		return colon + 1
	}
	value := colon + 1
	for value < len(data) && data[value] == ' ' {
		value++
	}
	if value < len(data) && data[value] == '"' {
		return value + 1 + s.text(data[value+1:])
	}
	return value
}

func isTextKey(key uint64) bool {
	switch key {
	case contentEnd, reasoningEnd, argumentsEnd, refusalEnd:
		return true
	}
	return key>>16 == textKey || key>>8 == deltaKey
}

// text counts up to the quote that ends the string, and gives its length.
func (s *TextCount) text(inside []byte) int {
	i := 0
	for i < len(inside) {
		if i = s.plain(inside, i); i == len(inside) {
			break
		}
		switch c := inside[i]; {
		case c == '"':
			return i
		case c == '\\':
			i += s.escape(inside[i:])
		default:
			s.Bytes++
			if c&0xc0 != 0x80 { // what continues a character is none
				s.Chars++
			}
		}
		i++
	}
	return min(i, len(inside))
}

// plain counts what stands before the next quote or backslash, and gives the place it came to; the last few bytes of the data
// are left to be looked at one by one. Plain ASCII goes by sixteen bytes, as in scanner.str, everything else by eight.
func (s *TextCount) plain(inside []byte, from int) int {
	i, continued := from, 0
	for i+8 <= len(inside) {
		x := binary.LittleEndian.Uint64(inside[i:])
		if i+16 <= len(inside) && (jsonspan.Marks(x)|jsonspan.Marks(binary.LittleEndian.Uint64(inside[i+8:])))&highs == 0 {
			i += 16
			continue
		}
		quote, slash := x^ones*'"', x^ones*'\\'
		if special := ((quote-ones)&^quote | (slash-ones)&^slash) & highs; special != 0 {
			n := bits.TrailingZeros64(special) / 8
			x &= 1<<(8*n) - 1
			continued += bits.OnesCount64(x &^ (x << 1) & highs)
			i += n
			break
		}
		continued += bits.OnesCount64(x &^ (x << 1) & highs)
		i += 8
	}
	s.Bytes += i - from
	s.Chars += i - from - continued
	return i
}

// escape counts one escape and gives its length less one.
func (s *TextCount) escape(b []byte) int {
	s.Chars++
	s.Bytes++
	r, n := jsonspan.UnicodeEscape(b)
	if n == 0 {
		return 1
	}
	switch {
	case r >= 0x10000:
		s.Bytes += 3
	case r >= 0x800:
		s.Bytes += 2
	case r >= 0x80:
		s.Bytes++
	}
	return n - 1
}
