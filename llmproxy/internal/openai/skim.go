package openai

import (
	"bytes"
	"encoding/binary"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// CountText returns the size of the text in a whole answer: its content, reasoning, tool arguments and refusals.
func CountText(answer []byte) (text jsonspan.TextCount) {
	skim(answer, &text)
	return text
}

// skim reports whether the data of an event is one complete JSON object, and whether it is significant: whether it may have a
// finish reason, a usage or an error other than null. It also adds the object's text to text, unless that is nil.
//
// Unlike jsonspan it does not look into strings and numbers: servers send half surrogate pairs, broken UTF-8 and NaN, and some
// clients can read them. It ignores keys with escapes, which no server sends.
func skim(data []byte, text *jsonspan.TextCount) (significant, complete bool) {
	s := skimmer{data: data, nesting: 1, text: text}
	if s.next() != '{' {
		return false, false
	}
	for s.value() {
		if s.nesting>>63 != 0 {
			return true, true // nothing is nested that deeply; let somebody else judge it
		}
		if s.nesting == 1 {
			return s.significant, s.next() == 0 && s.i == len(s.data)
		}
	}
	return false, false
}

// A skimmer goes over an object once, from left to right, without recursion.
type skimmer struct {
	data        []byte
	i           int
	nesting     uint64 // a one, then a bit for each level: one for an object, zero for an array
	text        *jsonspan.TextCount
	isText      bool // the value at i is text of the answer
	significant bool
}

// next skips white space and returns the byte after it, zero at the end.
func (s *skimmer) next() byte {
	if s.i < len(s.data) && s.data[s.i] > ' ' {
		return s.data[s.i]
	}
	return s.skipSpace()
}

func (s *skimmer) skipSpace() byte {
	for ; s.i < len(s.data); s.i++ {
		if c := s.data[s.i]; c > ' ' {
			return c
		}
	}
	return 0
}

// value skips the scalar, the empty object or array, or the opening bracket at i, and what follows up to the next value or the end.
func (s *skimmer) value() bool {
	switch c := s.next(); c {
	case '"':
		if s.isText {
			s.i = s.text.AddString(s.data, s.i+1) + 1
		} else {
			s.i = jsonspan.StringEnd(s.data, s.i+1) + 1
		}
		if s.i > len(s.data) {
			return false
		}
	case '{', '[':
		s.nesting = s.nesting<<1 | uint64(c>>5&1) // this bit is set in a brace, but not in a bracket
		s.i++
		if c := s.next(); c != '}' && c != ']' {
			return s.key()
		}
	default:
		from := s.i
		for s.i < len(s.data) && scalarBytes[s.data[s.i]] {
			s.i++
		}
		if s.i == from {
			return false
		}
	}
	return s.afterValue()
}

// afterValue skips closing brackets and a comma.
func (s *skimmer) afterValue() bool {
	for s.nesting != 1 {
		c := s.next()
		s.i++
		switch {
		case c == ',':
			return s.key()
		case c == '}' && s.nesting&1 == 1, c == ']' && s.nesting&1 == 0:
			s.nesting >>= 1
		default:
			return false
		}
	}
	return true
}

// key skips the key and its colon, within an object.
func (s *skimmer) key() bool {
	s.isText = false
	if s.nesting&1 == 0 {
		return true
	}
	if s.next() != '"' {
		return false
	}
	end := jsonspan.StringEnd(s.data, s.i+1)
	s.i = end + 1
	if s.next() != ':' {
		return false
	}
	s.i++
	if end < 7 {
		return true // the shortest of interest is in {"error":
	}
	ending := binary.LittleEndian.Uint64(s.data[end-7:])
	s.isText = s.text != nil && isTextKey(ending)
	if ending == finishReason || ending>>8 == usageKey || ending>>8 == errorKey {
		s.next()
		s.significant = s.significant || !bytes.HasPrefix(s.data[s.i:], []byte("null"))
	}
	return true
}

// The ends of keys, with their closing quotes, as little-endian words: bytes are compared one by one, words at once.
var (
	finishReason = binary.LittleEndian.Uint64([]byte(`_reason"`))
	usageKey     = binary.LittleEndian.Uint64([]byte("\x00\"usage\"")) >> 8
	errorKey     = binary.LittleEndian.Uint64([]byte("\x00\"error\"")) >> 8

	content   = binary.LittleEndian.Uint64([]byte(`content"`)) // also reasoning_content
	reasoning = binary.LittleEndian.Uint64([]byte(`asoning"`))
	arguments = binary.LittleEndian.Uint64([]byte(`guments"`)) // of a tool call
	refusal   = binary.LittleEndian.Uint64([]byte(`refusal"`))
	textKey   = binary.LittleEndian.Uint64([]byte("\x00\x00\"text\"")) >> 16 // of completions
	deltaKey  = binary.LittleEndian.Uint64([]byte("\x00\"delta\"")) >> 8     // of the Responses API
)

// isTextKey reports whether a key with this ending has text of the answer as its value, if that is a string.
func isTextKey(ending uint64) bool {
	switch ending {
	case content, reasoning, arguments, refusal:
		return true
	}
	return ending>>16 == textKey || ending>>8 == deltaKey
}

// scalarBytes are the bytes of numbers and literals.
var scalarBytes = func() (set [256]bool) {
	for c := range set {
		set[c] = c == '-' || c == '+' || c == '.' || '0' <= c && c <= '9' || 'a' <= c|' ' && c|' ' <= 'z'
	}
	return set
}()
