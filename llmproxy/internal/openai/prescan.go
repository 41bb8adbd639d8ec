package openai

import (
	"bytes"
	"encoding/binary"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// CountText returns the size of the text in a whole answer: its content, reasoning, tool arguments and refusals.
func CountText(answer []byte) (text jsonspan.TextCount) {
	prescan(answer, &text)
	return text
}

// IsObject reports whether the data of an event is one complete JSON object. It does not validate strings and numbers; see prescan.
func IsObject(data []byte) bool {
	_, complete := prescan(data, nil)
	return complete
}

// prescan goes over the data of an event before anything is parsed, because few events need parsing. It reports whether the data is
// one complete JSON object, and whether it is significant: whether it may have a finish reason, a usage or an error other than null.
// It also adds the object's text to text, unless that is nil.
//
// Unlike jsonspan it does not validate strings and numbers: servers send half surrogate pairs, invalid UTF-8 and NaN, and some
// clients can read them. It ignores keys with escapes, which no server sends.
//
// It reads the object once, from left to right, without recursion. All state is local, because this runs for every event of every
// stream: as fields of a struct it cost a third more.
func prescan(data []byte, text *jsonspan.TextCount) (significant, complete bool) {
	i, c := nextByte(data, 0)
	if c != '{' {
		return false, false
	}
	nesting := uint64(1) // a one, then a bit for each level: one for an object, zero for an array
	isText := false      // the value at i is text of the answer
	for {
		switch c {
		case '"':
			if isText {
				i = text.AddString(data, i+1) + 1
			} else {
				i = jsonspan.StringEnd(data, i+1) + 1
			}
		case '{', '[':
			if nesting>>62 != 0 {
				return true, true // no real event is nested that deeply: leave it to the parser
			}
			nesting = nesting<<1 | uint64(c>>5&1) // this bit is set in a brace, but not in a bracket
			if i, c = nextByte(data, i+1); c == '}' || c == ']' {
				break
			}
			goto member
		default:
			from := i
			for i < len(data) && scalarBytes[data[i]] {
				i++
			}
			if i == from {
				return false, false
			}
		}

		// Closing brackets, up to a comma or the end of the object.
		for i, c = nextByte(data, i); c != ','; i, c = nextByte(data, i+1) {
			if c != '}' && c != ']' || c>>5&1 != byte(nesting&1) {
				return false, false
			}
			if nesting >>= 1; nesting == 1 {
				i, c = nextByte(data, i+1)
				return significant, c == 0 && i == len(data)
			}
		}
		i, c = nextByte(data, i+1)

	member:
		isText = false
		if nesting&1 == 0 {
			continue // an element of an array has no key
		}
		if c != '"' {
			return false, false
		}
		end := jsonspan.StringEnd(data, i+1)
		if i, c = nextByte(data, end+1); c != ':' {
			return false, false
		}
		i, c = nextByte(data, i+1)
		if end < 7 {
			continue // the earliest key of interest is in {"error":
		}
		ending := binary.LittleEndian.Uint64(data[end-7:])
		isText = text != nil && isTextKey(ending)
		if ending == finishReason || ending>>8 == usageKey || ending>>8 == errorKey {
			significant = significant || !bytes.HasPrefix(data[i:], []byte("null"))
		}
	}
}

// nextByte skips white space from i on and returns the index of the next byte, and that byte, or zero at the end.
func nextByte(data []byte, i int) (int, byte) {
	if i < len(data) && data[i] > ' ' {
		return i, data[i]
	}
	return skipSpace(data, i)
}

func skipSpace(data []byte, i int) (int, byte) {
	for ; i < len(data); i++ {
		if c := data[i]; c > ' ' {
			return i, c
		}
	}
	return i, 0
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
