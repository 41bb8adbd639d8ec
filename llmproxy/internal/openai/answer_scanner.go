package openai

import (
	"bytes"

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
	i := from
	if s.escaped {
		s.escaped = false
		i++
	}
	// Long strings are base64, which has neither quotes nor backslashes.
	quote, escape := next(p, i, '"'), next(p, i, '\\')
	for escape < quote {
		if escape+1 == len(p) {
			s.escaped = true
			s.keep(p[from:])
			return len(p)
		}
		i = escape + 2
		if quote < i {
			quote = next(p, i, '"')
		}
		escape = next(p, i, '\\')
	}
	if quote == len(p) {
		s.keep(p[from:])
		return len(p)
	}
	s.inText = false
	if s.depth == 1 && s.object && s.place == atKey {
		s.keep(p[from:quote])
		s.place = atColon
		return quote + 1
	}
	s.keep(p[from : quote+1])
	return quote + 1
}

// next returns the index of a byte at or after from, or the length.
func next(p []byte, from int, c byte) int {
	if from >= len(p) {
		return len(p)
	}
	if i := bytes.IndexByte(p[from:], c); i >= 0 {
		return from + i
	}
	return len(p)
}

// structure reads what is not a string, up to the next string, and returns where to go on.
func (s *AnswerScanner) structure(p []byte, from int) int {
	for i := from; i < len(p); i++ {
		if s.depth > 2 && !s.kept { // only brackets and strings matter among the numbers of an embedding
			for i < len(p) && !opensOrCloses[p[i]] {
				i++
			}
			if i == len(p) {
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
