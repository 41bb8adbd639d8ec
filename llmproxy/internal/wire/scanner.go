package wire

import "fmt"

// A scanner checks a text once, from left to right. Its methods take the offset at which something begins and give the one
// behind it, or failed, and then err says why.
type scanner struct {
	b   []byte
	err *SyntaxError
}

const failed = -1

func (s *scanner) fail(at int, msg string) int {
	if s.err == nil {
		s.err = &SyntaxError{at, msg}
	}
	return failed
}

// result keeps a nil pointer from becoming an error that is not nil.
func (s *scanner) result() error {
	if s.err == nil {
		return nil
	}
	return s.err
}

// atEnd fails if anything but white space is left.
func (s *scanner) atEnd(i int) {
	if i = s.space(i); i < len(s.b) {
		s.fail(i, "something stands behind its end")
	}
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\r' || s.b[i] == '\t') {
		i++
	}
	return i
}

// peek gives the byte at hand, zero at the end; no JSON token begins with a zero.
func (s *scanner) peek(i int) byte {
	if i < len(s.b) {
		return s.b[i]
	}
	return 0
}

// value checks any value; depth is the number of objects and arrays around it.
func (s *scanner) value(i, depth int) int {
	switch c := s.peek(i); c {
	case '"':
		return s.str(i)
	case '{':
		return s.object(i, depth+1, nil)
	case '[':
		return s.array(i, depth+1, nil)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number(i)
	}
	if i >= len(s.b) {
		return s.fail(i, "it ends where a value is expected")
	}
	return s.fail(i, "no value begins like this")
}

// object checks an object and shows its members to visit, if there is one, until that returns false.
func (s *scanner) object(i, depth int, visit func(Member) bool) int {
	if depth > maxDepth {
		return s.tooDeep(i)
	}
	i = s.space(i + 1)
	if s.peek(i) == '}' {
		return i + 1
	}
	for {
		if s.peek(i) != '"' {
			return s.fail(i, "a key in double quotes is expected")
		}
		key := i + 1
		if i = s.str(i); i == failed {
			return failed
		}
		keyEnd := i - 1
		if i = s.space(i); s.peek(i) != ':' {
			return s.fail(i, "a colon is expected behind a key")
		}
		value := s.space(i + 1)
		if i = s.value(value, depth); i == failed {
			return failed
		}
		if visit != nil && !visit(Member{Span{key, keyEnd}, Span{value, i}}) {
			return i
		}
		switch i = s.space(i); s.peek(i) {
		case ',':
			i = s.space(i + 1)
		case '}':
			return i + 1
		default:
			return s.fail(i, "a comma or a closing brace is expected")
		}
	}
}

// array checks an array and shows its elements to visit, if there is one, until that returns false.
func (s *scanner) array(i, depth int, visit func(Span) bool) int {
	if depth > maxDepth {
		return s.tooDeep(i)
	}
	i = s.space(i + 1)
	if s.peek(i) == ']' {
		return i + 1
	}
	for {
		value := i
		if i = s.value(i, depth); i == failed {
			return failed
		}
		if visit != nil && !visit(Span{value, i}) {
			return i
		}
		switch i = s.space(i); s.peek(i) {
		case ',':
			i = s.space(i + 1)
		case ']':
			return i + 1
		default:
			return s.fail(i, "a comma or a closing bracket is expected")
		}
	}
}

func (s *scanner) tooDeep(i int) int {
	return s.fail(i, fmt.Sprintf("it is nested more than %d deep", maxDepth))
}

func (s *scanner) literal(i int, word string) int {
	if len(s.b)-i < len(word) || string(s.b[i:i+len(word)]) != word {
		return s.fail(i, "no value begins like this")
	}
	return i + len(word)
}

func (s *scanner) number(i int) int {
	if s.b[i] == '-' {
		i++
	}
	if s.peek(i) == '0' {
		i++ // no digit may follow: 01 is none
	} else if i = s.digits(i); i == failed {
		return failed
	}
	if s.peek(i) == '.' {
		if i = s.digits(i + 1); i == failed {
			return failed
		}
	}
	if c := s.peek(i); c == 'e' || c == 'E' {
		i++
		if c := s.peek(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits wants at least one.
func (s *scanner) digits(i int) int {
	from := i
	for i < len(s.b) && '0' <= s.b[i] && s.b[i] <= '9' {
		i++
	}
	if i == from {
		return s.fail(i, "a digit is expected in a number")
	}
	return i
}
