// Package jsonspan reads and edits JSON in place: it checks a text once, finds its members as spans of the bytes that came, and
// replaces some of them without touching the rest.
//
// It is stricter than encoding/json where servers disagree, and knows nothing of what a member means. It stands on the lowest floor.
package jsonspan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

const (
	// MaxDepth bounds nesting: far above what any schema needs, far below what makes a server's recursive parser fail.
	MaxDepth = 512
	// maxMembers bounds the members of the outermost object, each of which takes 32 bytes here and may take 5 in the body.
	maxMembers = 1024
	// usualMembers is how many an SDK sends, or fewer.
	usualMembers = 8
)

// A Span is a part of a body.
type Span struct{ Start, End int }

// Of gives the bytes of the span.
func (s Span) Of(b []byte) []byte { return b[s.Start:s.End] }

// A Member is a key and its value, as they stand in the body.
type Member struct {
	Key   Span // without its quotes; may hold escapes
	Value Span
}

// A SyntaxError says where a text stops being the JSON it should be.
type SyntaxError struct {
	Offset int
	Msg    string
}

// Error says what is wrong and where.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (byte %d)", e.Msg, e.Offset) }

// An Object is a JSON object and where its outermost members stand.
type Object struct {
	Body    []byte
	Members []Member
	Close   int // offset of the closing brace
}

// Scan checks that the whole body is one JSON object (RFC 8259, UTF-8, no byte order mark, nothing behind it) and notes its
// members, in the slice that is there. Errors are of type *SyntaxError.
func (o *Object) Scan(body []byte) error {
	o.Body, o.Members, o.Close = body, o.Members[:0], 0
	s := Scanner{Text: body}
	i := s.Space(0)
	if i == len(body) || body[i] != '{' {
		s.Fail(i, noObject(body[i:]))
		return s.err
	}
	end := s.Object(i, 1, func(m Member) bool {
		if len(o.Members) == maxMembers {
			s.Fail(m.Key.Start-1, fmt.Sprintf("the object has more than %d members", maxMembers))
			return false
		}
		if o.Members == nil {
			o.Members = make([]Member, 0, usualMembers)
		}
		o.Members = append(o.Members, m)
		return true
	})
	if s.err == nil {
		o.Close = end - 1
		s.AtEnd(end)
	}
	return s.Err()
}

// noObject says what a text is that does not begin with a brace.
func noObject(text []byte) string {
	switch {
	case len(text) == 0:
		return "it is empty"
	case len(text) >= 3 && string(text[:3]) == "\xef\xbb\xbf":
		return "it begins with a byte order mark, which JSON does not allow"
	case text[0] == '[' || text[0] == '"':
		return "it is an array or a string, not an object"
	}
	return "it does not begin with a brace"
}

// Get gives the value of a key; of several the last, as most servers take it.
func (o *Object) Get(key string) (value []byte, ok bool) {
	for i := len(o.Members) - 1; i >= 0; i-- {
		if raw := o.Members[i].Key.Of(o.Body); string(raw) == key || string(Unescape(raw)) == key {
			return o.Members[i].Value.Of(o.Body), true
		}
	}
	return nil, false
}

// A Scanner checks a text once, from left to right. Its methods take the offset at which something begins and give the one
// behind it, or Failed, and then err says why.
type Scanner struct {
	Text []byte
	err  *SyntaxError
}

const Failed = -1

func (s *Scanner) Fail(at int, msg string) int {
	if s.err == nil {
		s.err = &SyntaxError{at, msg}
	}
	return Failed
}

// result keeps a nil pointer from becoming an error that is not nil.
func (s *Scanner) Err() error {
	if s.err == nil {
		return nil
	}
	return s.err
}

// atEnd fails if anything but white space is left.
func (s *Scanner) AtEnd(i int) {
	if i = s.Space(i); i < len(s.Text) {
		s.Fail(i, "something stands behind its end")
	}
}

func (s *Scanner) Space(i int) int {
	for i < len(s.Text) && (s.Text[i] == ' ' || s.Text[i] == '\n' || s.Text[i] == '\r' || s.Text[i] == '\t') {
		i++
	}
	return i
}

// peek gives the byte at hand, zero at the end; no JSON token begins with a zero.
func (s *Scanner) Peek(i int) byte {
	if i < len(s.Text) {
		return s.Text[i]
	}
	return 0
}

// value checks any value; depth is the number of objects and arrays around it.
func (s *Scanner) Value(i, depth int) int {
	switch c := s.Peek(i); c {
	case '"':
		return s.String(i)
	case '{':
		return s.Object(i, depth+1, nil)
	case '[':
		return s.Array(i, depth+1, nil)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.Number(i)
	}
	if i >= len(s.Text) {
		return s.Fail(i, "it ends where a value is expected")
	}
	return s.Fail(i, "no value begins like this")
}

// object checks an object and shows its members to visit, if there is one, until that returns false.
func (s *Scanner) Object(i, depth int, visit func(Member) bool) int {
	if depth > MaxDepth {
		return s.tooDeep(i)
	}
	i = s.Space(i + 1)
	if s.Peek(i) == '}' {
		return i + 1
	}
	for {
		if s.Peek(i) != '"' {
			return s.Fail(i, "a key in double quotes is expected")
		}
		key := i + 1
		if i = s.String(i); i == Failed {
			return Failed
		}
		keyEnd := i - 1
		if i = s.Space(i); s.Peek(i) != ':' {
			return s.Fail(i, "a colon is expected behind a key")
		}
		value := s.Space(i + 1)
		if i = s.Value(value, depth); i == Failed {
			return Failed
		}
		if visit != nil && !visit(Member{Span{key, keyEnd}, Span{value, i}}) {
			return i
		}
		switch i = s.Space(i); s.Peek(i) {
		case ',':
			i = s.Space(i + 1)
		case '}':
			return i + 1
		default:
			return s.Fail(i, "a comma or a closing brace is expected")
		}
	}
}

// array checks an array and shows its elements to visit, if there is one, until that returns false.
func (s *Scanner) Array(i, depth int, visit func(Span) bool) int {
	if depth > MaxDepth {
		return s.tooDeep(i)
	}
	i = s.Space(i + 1)
	if s.Peek(i) == ']' {
		return i + 1
	}
	for {
		value := i
		if i = s.Value(i, depth); i == Failed {
			return Failed
		}
		if visit != nil && !visit(Span{value, i}) {
			return i
		}
		switch i = s.Space(i); s.Peek(i) {
		case ',':
			i = s.Space(i + 1)
		case ']':
			return i + 1
		default:
			return s.Fail(i, "a comma or a closing bracket is expected")
		}
	}
}

func (s *Scanner) tooDeep(i int) int {
	return s.Fail(i, fmt.Sprintf("it is nested more than %d deep", MaxDepth))
}

func (s *Scanner) literal(i int, word string) int {
	if len(s.Text)-i < len(word) || string(s.Text[i:i+len(word)]) != word {
		return s.Fail(i, "no value begins like this")
	}
	return i + len(word)
}

func (s *Scanner) Number(i int) int {
	if s.Text[i] == '-' {
		i++
	}
	if s.Peek(i) == '0' {
		i++ // no digit may follow: 01 is none
	} else if i = s.digits(i); i == Failed {
		return Failed
	}
	if s.Peek(i) == '.' {
		if i = s.digits(i + 1); i == Failed {
			return Failed
		}
	}
	if c := s.Peek(i); c == 'e' || c == 'E' {
		i++
		if c := s.Peek(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits wants at least one.
func (s *Scanner) digits(i int) int {
	from := i
	for i < len(s.Text) && '0' <= s.Text[i] && s.Text[i] <= '9' {
		i++
	}
	if i == from {
		return s.Fail(i, "a digit is expected in a number")
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// Marks sets the high bit of the bytes of a word that may not stand in a string as they are: quotes, control characters,
// backslashes, and what is not ASCII. Of these the lowest mark is exact; those above it may stem from a borrow.
func Marks(w uint64) uint64 {
	// Flipping a bit brings the quote (22 hexadecimal) down to the control characters, which end at 1f.
	return w | (w ^ ones*2 - ones*0x21) | (w ^ ones*'\\' - ones)
}

// str checks a string that begins at i with its quote. It goes by sixteen bytes, because prompts are long.
func (s *Scanner) String(i int) int {
	b := s.Text
	i++
	for p := b[i:]; len(p) >= 16; p = b[i:] {
		found, second := Marks(binary.LittleEndian.Uint64(p)), Marks(binary.LittleEndian.Uint64(p[8:]))
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
			if i = s.unplain(i); i == Failed {
				return Failed
			}
		}
	}
	for i < len(b) && b[i] != '"' {
		if i = s.unplain(i); i == Failed {
			return Failed
		}
	}
	if i >= len(b) {
		return s.Fail(len(b), cutString)
	}
	return i + 1
}

// shortEscape are the bytes that make an escape with a backslash before them.
var shortEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

const cutString = "it ends inside a string: was it cut off?"

// unplain checks what may need a look at i: an escape, UTF-8, a control character, which is not allowed, or a plain one.
func (s *Scanner) unplain(i int) int {
	switch c := s.Text[i]; {
	case c == '\\':
		return s.escape(i)
	case c >= utf8.RuneSelf:
		return s.beyondASCII(i)
	case c < ' ':
		return s.Fail(i, "a control character stands in a string: write it as an escape, a line break as \\n")
	}
	return i + 1
}

// beyondASCII checks the UTF-8 from i up to the next quote, backslash or control character. Other languages than English
// stay in here, so it goes by eight bytes as well.
func (s *Scanner) beyondASCII(i int) int {
	end := i
	for ; end+8 <= len(s.Text); end += 8 {
		w := binary.LittleEndian.Uint64(s.Text[end:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		found := ((w-ones*' ')&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if found != 0 {
			end += bits.TrailingZeros64(found) / 8
			break
		}
	}
	for end < len(s.Text) && s.Text[end] >= ' ' && s.Text[end] != '"' && s.Text[end] != '\\' {
		end++
	}
	if utf8.Valid(s.Text[i:end]) {
		return end
	}
	for {
		r, n := utf8.DecodeRune(s.Text[i:end])
		if r == utf8.RuneError && n <= 1 {
			return s.Fail(i, "a string is not UTF-8: encode the body in UTF-8")
		}
		i += n
	}
}

// escape checks an escape that begins at i with its backslash. Half a surrogate pair is an error: decoders disagree on it.
func (s *Scanner) escape(i int) int {
	if i+1 >= len(s.Text) {
		return s.Fail(i, cutString)
	}
	if shortEscape[s.Text[i+1]] {
		return i + 2
	}
	if s.Text[i+1] != 'u' {
		return s.Fail(i, "no escape begins like this: write a backslash as \\\\")
	}
	if _, n := UnicodeEscape(s.Text[i:]); n > 0 {
		return i + n
	}
	return s.Fail(i, "\\u needs four hexadecimal digits, and one half of a surrogate pair the other half")
}
