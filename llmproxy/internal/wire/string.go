package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// marks sets the high bit of the bytes of a word that may not stand in a string as they are: quotes, control characters,
// backslashes, and what is not ASCII. Of these the lowest mark is exact; those above it may stem from a borrow.
func marks(w uint64) uint64 {
	// Flipping a bit brings the quote (22 hexadecimal) down to the control characters, which end at 1f.
	return w | (w ^ ones*2 - ones*0x21) | (w ^ ones*'\\' - ones)
}

// str checks a string that begins at i with its quote. It goes by sixteen bytes, because prompts are long.
func (s *scanner) str(i int) int {
	b := s.b
	i++
	for p := b[i:]; len(p) >= 16; p = b[i:] {
		found, second := marks(binary.LittleEndian.Uint64(p)), marks(binary.LittleEndian.Uint64(p[8:]))
		if (found|second)&highs == 0 {
			i += 16
			continue
		}
		if found&highs == 0 {
			i, found = i+8, second
		}
		i += bits.TrailingZeros64(found&highs) / 8
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\' && i+1 < len(b) && shortEscape[b[i+1]]:
			i += 2
		default:
			if i = s.unplain(i); i == failed {
				return failed
			}
		}
	}
	for i < len(b) && b[i] != '"' {
		if i = s.unplain(i); i == failed {
			return failed
		}
	}
	if i >= len(b) {
		return s.fail(len(b), cutString)
	}
	return i + 1
}

// shortEscape are the bytes that make an escape with a backslash before them.
var shortEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

const cutString = "it ends inside a string: was it cut off?"

// unplain checks what may need a look at i: an escape, UTF-8, a control character, which is not allowed, or a plain one.
func (s *scanner) unplain(i int) int {
	switch c := s.b[i]; {
	case c == '\\':
		return s.escape(i)
	case c >= utf8.RuneSelf:
		return s.beyondASCII(i)
	case c < ' ':
		return s.fail(i, "a control character stands in a string: write it as an escape, a line break as \\n")
	}
	return i + 1
}

// beyondASCII checks the UTF-8 from i up to the next quote, backslash or control character. Other languages than English
// stay in here, so it goes by eight bytes as well.
func (s *scanner) beyondASCII(i int) int {
	end := i
	for ; end+8 <= len(s.b); end += 8 {
		w := binary.LittleEndian.Uint64(s.b[end:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		found := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if found != 0 {
			end += bits.TrailingZeros64(found) / 8
			break
		}
	}
	for end < len(s.b) && s.b[end] >= ' ' && s.b[end] != '"' && s.b[end] != '\\' {
		end++
	}
	if utf8.Valid(s.b[i:end]) {
		return end
	}
	for {
		r, n := utf8.DecodeRune(s.b[i:end])
		if r == utf8.RuneError && n <= 1 {
			return s.fail(i, "a string is not UTF-8: encode the body in UTF-8")
		}
		i += n
	}
}

// escape checks an escape that begins at i with its backslash. Half a surrogate pair is an error: decoders disagree on it.
func (s *scanner) escape(i int) int {
	if i+1 >= len(s.b) {
		return s.fail(i, cutString)
	}
	if shortEscape[s.b[i+1]] {
		return i + 2
	}
	if s.b[i+1] != 'u' {
		return s.fail(i, "no escape begins like this: write a backslash as \\\\")
	}
	if _, n := unicodeEscape(s.b[i:]); n > 0 {
		return i + n
	}
	return s.fail(i, "\\u needs four hexadecimal digits, and one half of a surrogate pair the other half")
}
