package openai

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// The ends of the keys that bring news, as little-endian words: bytes compare one by one, words at once.
var (
	reasonEnd = binary.LittleEndian.Uint64([]byte(`_reason"`))
	usageKey  = binary.LittleEndian.Uint64([]byte("\x00\"usage\"")) >> 8
	errorKey  = binary.LittleEndian.Uint64([]byte("\x00\"error\"")) >> 8
)

// Words of which each byte is 01, or 80.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// A skimmer goes once through an event, from left to right.
type skimmer struct {
	data []byte
	i    int
	nest uint64 // a one, then a bit for each level: one for an object, zero for an array
	said *TextCount
	text bool // the value at hand is what a model said
	news bool
	last jsonspan.Span // the inside of the last text
}

// skim reports whether the data of an event is a whole JSON object, and whether that may have a finish reason, a usage or an
// error other than null. On its way it counts the text; said may be nil. Unlike a scanner it finds what was cut, mangled or
// is no JSON at all, but does not look into strings and numbers: servers write half surrogates, broken UTF-8 and NaN, and
// there are clients that read them. Keys written with escapes bring no news; no server writes these so.
func skim(data []byte, said *TextCount) (news, whole bool) {
	s := skimmer{data: data, nest: 1, said: said}
	return s.skim()
}

func (s *skimmer) skim() (news, whole bool) {
	if s.peek() != '{' {
		return false, false
	}
	for s.value() {
		if s.nest>>63 != 0 {
			return true, true // nobody nests so deep; this is not judged
		}
		if s.nest == 1 {
			return s.news, s.peek() == 0 && s.i == len(s.data)
		}
	}
	return false, false
}

// peek gives the next byte that is no white space, zero at the end.
func (s *skimmer) peek() byte {
	if s.i < len(s.data) && s.data[s.i] > ' ' {
		return s.data[s.i]
	}
	return s.space()
}

func (s *skimmer) space() byte {
	for ; s.i < len(s.data); s.i++ {
		if c := s.data[s.i]; c > ' ' {
			return c
		}
	}
	return 0
}

// value goes through what begins here, a value or the inside of one, up to where the next value begins or all of them end.
func (s *skimmer) value() bool {
	switch c := s.peek(); c {
	case '"':
		if !s.str() {
			return false
		}
	case '{', '[':
		s.nest = s.nest<<1 | uint64(c>>5&1) // the brace has this bit, the bracket has not
		s.i++
		if c := s.peek(); c != '}' && c != ']' {
			return s.member()
		}
	default:
		if !s.scalar() {
			return false
		}
	}
	return s.closed()
}

// closed goes behind what ends with a value.
func (s *skimmer) closed() bool {
	for s.nest != 1 {
		c := s.peek()
		s.i++
		switch {
		case c == ',':
			return s.member()
		case c == '}' && s.nest&1 == 1, c == ']' && s.nest&1 == 0:
			s.nest >>= 1
		default:
			return false
		}
	}
	return true
}

// member goes behind a key, if one has to stand here.
func (s *skimmer) member() bool {
	s.text = false
	if s.nest&1 == 0 {
		return true
	}
	if s.peek() != '"' {
		return false
	}
	end := endQuote(s.data, s.i+1)
	s.i = end + 1
	if s.peek() != ':' {
		return false
	}
	s.i++
	if end >= 7 {
		s.key(binary.LittleEndian.Uint64(s.data[end-7:]))
	}
	return true
}

// key looks at the end of a key. The first that can bring news begins with the second byte, in {"error":.
func (s *skimmer) key(end uint64) {
	s.text = s.said != nil && isTextKey(end)
	if end == reasonEnd || end>>8 == usageKey || end>>8 == errorKey {
		s.peek()
		s.news = s.news || !bytes.HasPrefix(s.data[s.i:], []byte("null"))
	}
}

func (s *skimmer) str() bool {
	if s.text {
		start := s.i + 1
		s.i = start + s.said.text(s.data[start:])
		s.last = jsonspan.Span{Start: start, End: s.i}
	} else {
		s.i = endQuote(s.data, s.i+1)
	}
	s.i++
	return s.i <= len(s.data)
}

// scalar goes behind a number or a literal.
func (s *skimmer) scalar() bool {
	from := s.i
	for s.i < len(s.data) && scalars[s.data[s.i]] {
		s.i++
	}
	return s.i > from
}

// scalars are the bytes of numbers and literals.
var scalars = func() (set [256]bool) {
	for c := range set {
		set[c] = c == '-' || c == '+' || c == '.' || '0' <= c && c <= '9' || 'a' <= c|' ' && c|' ' <= 'z'
	}
	return set
}()

// endQuote finds the quote that ends a string, whose inside begins at i; it is the length of the data if there is none.
func endQuote(data []byte, i int) int {
	for i+8 <= len(data) {
		x := binary.LittleEndian.Uint64(data[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		found := ((quote-ones)&^quote | (slash-ones)&^slash) & highs
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
