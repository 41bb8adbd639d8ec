package openai

import (
	"bytes"
	"encoding/binary"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// An AnswerScanner reads what an answer of any size cost while it passes by, in pieces of any size. Usage usually stands at the end, after
// images or embeddings that must not be kept in memory. Of the answer's members, the scanner keeps only those that it reads, and each
// only up to maxScanned. It does not validate: what it cannot read has no usage. Its zero value is ready to use.
type AnswerScanner struct {
	depth   int  // of open brackets
	inText  bool // inside a string
	escaped bool // the next byte of the string is escaped
	object  bool // the outermost value is an object
	closed  bool // it has ended

	place place  // within a member of the outermost object
	key   []byte // its key
	value []byte // what is kept of its value
	kept  bool   // the value is kept

	answer Answer
	images int64
}

// A place is where the scanner is in a member of the outermost object.
type place uint8

const (
	atKey place = iota
	atColon
	atValue
)

const (
	// maxScanned bounds what is kept of a value, in bytes.
	maxScanned = 64 << 10
	// maxScannedKey is longer than every key that is read.
	maxScannedKey = 32
)

// Answer returns what the scanner has read so far.
func (s *AnswerScanner) Answer() Answer { return s.answer }

// Complete reports whether the answer has ended.
func (s *AnswerScanner) Complete() bool { return s.closed }

// Images returns the number of elements in "data".
func (s *AnswerScanner) Images() int64 { return s.images }

// Write reads the next piece of the answer. It never fails.
func (s *AnswerScanner) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if s.inText {
			i = s.text(p, i)
			continue
		}
		i = s.structure(p, i)
	}
	return len(p), nil
}

// text reads on in a string, and returns where to go on after it.
func (s *AnswerScanner) text(p []byte, from int) int {
	var end int
	if end, s.escaped = RestOfString(p, from, s.escaped); end == len(p) {
		s.keep(p[from:])
		return end
	}
	s.inText = false
	if s.depth == 1 && s.object && s.place == atKey {
		s.keep(p[from:end])
		s.place = atColon
		return end + 1
	}
	s.keep(p[from : end+1])
	return end + 1
}

// RestOfString returns the index of the quote that ends a string that goes on at an index of a piece of text, or the length of the piece.
// Escaped means that the piece before ended in the middle of an escape; goesOn means that this one does. It looks for quotes, because that is
// what a processor does fastest.
func RestOfString(p []byte, from int, escaped bool) (end int, goesOn bool) {
	for i := from; ; i = end + 1 {
		end = len(p)
		if n := bytes.IndexByte(p[i:], '"'); n >= 0 {
			end = i + n
		}
		slash := end
		for slash > i && p[slash-1] == '\\' {
			slash--
		}
		odd := (end-slash)%2 == 1 // each pair of backslashes is one in the text
		if slash == from && escaped {
			odd = !odd // the first of these bytes belongs to a backslash of the piece before
		}
		if end == len(p) {
			return end, odd
		}
		if !odd {
			return end, false
		}
	}
}

// structure reads what is not a string, up to the next string, and returns where to go on.
func (s *AnswerScanner) structure(p []byte, from int) int {
	for i := from; i < len(p); i++ {
		if s.depth > 2 && !s.kept { // only brackets and strings matter among the numbers of an embedding
			if i = skipNumbers(p, i); i == len(p) {
				break
			}
		}
		switch c := p[i]; c {
		case '"':
			s.inText = true
			s.element()
			if s.depth == 1 && s.object && s.place == atKey {
				s.key = s.key[:0]
			} else {
				s.keepByte(c)
			}
			return i + 1
		case '{', '[':
			s.element()
			if s.depth == 0 {
				s.object = c == '{'
			} else {
				s.keepByte(c)
			}
			s.depth++
		case '}', ']':
			switch s.depth--; s.depth {
			case 0:
				s.end()
				s.closed = true
			case -1:
				s.depth = 0 // what follows the answer
			default:
				s.keepByte(c)
			}
		case ',':
			switch {
			case s.depth == 1:
				s.end()
			case s.inData() && s.depth == 2:
				s.images++
			default:
				s.keepByte(c)
			}
		case ':':
			if s.depth == 1 && s.place == atColon {
				s.begin()
			} else {
				s.keepByte(c)
			}
		case ' ', '\t', '\r', '\n':
		default:
			s.element()
			s.keepByte(c)
		}
	}
	return len(p)
}

// skipNumbers returns the index of the next quote or bracket at or after i, or the length. It takes sixteen bytes at a time.
func skipNumbers(p []byte, i int) int {
	for i+16 <= len(p) && quoteOrBracket(binary.LittleEndian.Uint64(p[i:]))|quoteOrBracket(binary.LittleEndian.Uint64(p[i+8:])) == 0 {
		i += 16
	}
	for i < len(p) && !opensOrCloses[p[i]] {
		i++
	}
	return i
}

// quoteOrBracket returns zero if no byte of a word is a quote or a bracket.
func quoteOrBracket(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	// Setting these bits makes all brackets the same byte. The few other bytes that become it, too, are no part of a number.
	quote, bracket := w^ones*'"', (w|ones*0x26)^ones*0x7f
	return ((quote-ones)&^quote | (bracket-ones)&^bracket) & highs
}

var opensOrCloses = [256]bool{'"': true, '{': true, '[': true, '}': true, ']': true}

// begin begins the value of a member.
func (s *AnswerScanner) begin() {
	s.place, s.value = atValue, s.value[:0]
	switch string(s.key) {
	case "usage", "usageMetadata", "usage_metadata", "x_groq", "meta", "service_tier", "duration", "prompt_eval_count", "eval_count":
		s.kept = true
	}
}

// end ends the value of a member, and reads it.
func (s *AnswerScanner) end() {
	if s.kept && len(s.value) > 0 && !jsonspan.IsNull(s.value) {
		s.answer.read(s.key, s.value)
	}
	s.place, s.kept = atKey, false
}

// inData reports whether the scanner is in the value of "data".
func (s *AnswerScanner) inData() bool { return s.place == atValue && string(s.key) == "data" }

// element counts the first element of "data"; the others follow a comma.
func (s *AnswerScanner) element() {
	if s.images == 0 && s.depth == 2 && s.inData() {
		s.images = 1
	}
}

// keep keeps a part of a key, or of a value that is kept.
func (s *AnswerScanner) keep(p []byte) {
	switch {
	case s.depth == 1 && s.object && s.place == atKey:
		if len(s.key)+len(p) <= maxScannedKey {
			s.key = append(s.key, p...)
		} else {
			s.key = append(s.key[:0], 0) // no key that is read
		}
	case s.kept && len(s.value)+len(p) <= maxScanned:
		s.value = append(s.value, p...)
	case s.kept:
		s.kept = false
	}
}

func (s *AnswerScanner) keepByte(c byte) {
	if s.kept {
		b := [1]byte{c}
		s.keep(b[:])
	}
}
