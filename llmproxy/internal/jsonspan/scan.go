// Package jsonspan reads and edits JSON in place: it validates a text once, finds its members as spans of the original bytes,
// and replaces some of them without touching the rest.
//
// It is stricter than encoding/json where servers disagree: text must be UTF-8, surrogates must come in pairs, and nesting is
// bounded. It knows nothing of what a member means and does no input or output. It stands on the lowest floor.
package jsonspan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

const (
	// maxDepth bounds nesting: far above what any schema needs, far below what makes a server's recursive parser fail.
	maxDepth = 512
	// maxMembers bounds the members of the outermost object. Each takes 32 bytes here and may take as few as 5 in the body.
	maxMembers = 1024
	// usualMembers is how many members the request of an SDK usually has at most.
	usualMembers = 8
)

// A Span is a range of bytes.
type Span struct{ Start, End int }

// Of returns the bytes of b within the span.
func (s Span) Of(b []byte) []byte { return b[s.Start:s.End] }

// A Member is the location of a key and its value.
type Member struct {
	Key   Span // without its quotes, still escaped
	Value Span
}

// A SyntaxError says where a text stops being valid JSON.
type SyntaxError struct {
	Offset int
	Msg    string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s (byte %d)", e.Msg, e.Offset) }

// An Object is a JSON object and where its outermost members are.
type Object struct {
	Body    []byte
	Members []Member
	Close   int // offset of the closing brace
}

// Scan validates that the whole body is one JSON object (RFC 8259, without a byte order mark) and finds its members. It reuses
// the slice of members. Errors are of type *SyntaxError.
func (o *Object) Scan(body []byte) error {
	o.Body, o.Members, o.Close = body, o.Members[:0], 0
	s := Scanner{Text: body}
	i := s.Space(0)
	if s.peek(i) != '{' {
		s.fail(i, notObject(body[i:]))
		return s.err
	}
	end := s.Object(i, 1, func(key Span, value int) int {
		end := s.Value(value, 1)
		if end == Failed {
			return Failed
		}
		if len(o.Members) == maxMembers {
			return s.fail(key.Start-1, fmt.Sprintf("the object has more than %d members", maxMembers))
		}
		if o.Members == nil {
			o.Members = make([]Member, 0, usualMembers)
		}
		o.Members = append(o.Members, Member{key, Span{value, end}})
		return end
	})
	if s.err == nil {
		o.Close = end - 1
		s.End(end)
	}
	return s.Err()
}

// notObject describes a text that does not start with a brace.
func notObject(text []byte) string {
	switch {
	case len(text) == 0:
		return "it is empty"
	case len(text) >= 3 && string(text[:3]) == "\xef\xbb\xbf":
		return "it starts with a byte order mark, which JSON does not allow"
	case text[0] == '[' || text[0] == '"':
		return "it is an array or a string, not an object"
	}
	return "it does not start with a brace"
}

// Get returns the value of a key. If the key is repeated, the last one counts, as on most servers.
func (o *Object) Get(key string) (value []byte, ok bool) {
	for i := len(o.Members) - 1; i >= 0; i-- {
		if raw := o.Members[i].Key.Of(o.Body); string(raw) == key || string(Unescape(raw)) == key {
			return o.Members[i].Value.Of(o.Body), true
		}
	}
	return nil, false
}

var (
	errNotObject   = errors.New("not a JSON object")
	errNotArray    = errors.New("not a JSON array")
	errNotCompound = errors.New("neither a JSON object nor a JSON array")
)

// EachMember calls visit for the members of an object until it returns false. Keys come without their quotes, still escaped.
// It is safe on any bytes and does not allocate. It validates only the part that it reads.
func EachMember(object []byte, visit func(key, value []byte) bool) error {
	s := Scanner{Text: object}
	i := s.Space(0)
	if s.peek(i) != '{' {
		return errNotObject
	}
	s.members(i, visit)
	return s.Err()
}

// MemberOf returns the value of a member of an object. It returns nil if the member is missing or null, or the text is not an object. Of
// members with the same name, the last one counts.
func MemberOf(object []byte, name string) (found []byte) {
	_ = EachMember(object, func(key, value []byte) bool { // what is not an object has no members
		if string(key) == name && !IsNull(value) {
			found = value
		}
		return true
	})
	return found
}

// EachElement calls visit for the elements of an array until it returns false. Otherwise it is like EachMember.
func EachElement(array []byte, visit func(value []byte) bool) error {
	s := Scanner{Text: array}
	i := s.Space(0)
	if s.peek(i) != '[' {
		return errNotArray
	}
	s.elements(i, visit)
	return s.Err()
}

// Walk validates that a text is one object or array, with nothing after it, and visits its members or elements.
func Walk(text []byte, member func(key, value []byte), element func(value []byte)) error {
	s := Scanner{Text: text}
	i := s.Space(0)
	switch s.peek(i) {
	case '{':
		i = s.members(i, func(key, value []byte) bool { member(key, value); return true })
	case '[':
		i = s.elements(i, func(value []byte) bool { element(value); return true })
	default:
		return errNotCompound
	}
	if s.err == nil {
		s.End(i)
	}
	return s.Err()
}

func (s *Scanner) members(i int, visit func(key, value []byte) bool) int {
	return s.Object(i, 1, func(key Span, value int) int {
		end := s.Value(value, 1)
		if end != Failed && !visit(key.Of(s.Text), s.Text[value:end]) {
			return Failed
		}
		return end
	})
}

func (s *Scanner) elements(i int, visit func(value []byte) bool) int {
	return s.Array(i, 1, func(value int) int {
		end := s.Value(value, 1)
		if end != Failed && !visit(s.Text[value:end]) {
			return Failed
		}
		return end
	})
}

// A Scanner validates a text once, from left to right. Its methods take the offset at which something starts and return the
// offset after it, or Failed.
type Scanner struct {
	Text []byte
	err  *SyntaxError
}

// Failed is returned instead of an offset if the text is not valid, or if a visitor stopped the scan.
const Failed = -1

// Err returns the first error that was found, a *SyntaxError. It is nil if a visitor stopped the scan.
func (s *Scanner) Err() error {
	if s.err == nil {
		return nil // not a nil pointer within an interface
	}
	return s.err
}

func (s *Scanner) fail(at int, msg string) int {
	if s.err == nil {
		s.err = &SyntaxError{at, msg}
	}
	return Failed
}

// End fails if anything but white space is left at i.
func (s *Scanner) End(i int) {
	if i = s.Space(i); i < len(s.Text) {
		s.fail(i, "there is data after its end")
	}
}

// Space skips white space.
func (s *Scanner) Space(i int) int {
	for i < len(s.Text) && (s.Text[i] == ' ' || s.Text[i] == '\n' || s.Text[i] == '\r' || s.Text[i] == '\t') {
		i++
	}
	return i
}

// peek returns the byte at i, or zero at the end. No JSON token starts with zero.
func (s *Scanner) peek(i int) byte {
	if i < len(s.Text) {
		return s.Text[i]
	}
	return 0
}

// Value validates a value. Depth is the number of objects and arrays around it.
func (s *Scanner) Value(i, depth int) int {
	switch s.peek(i) {
	case '"':
		return s.String(i)
	case '{', '[':
		return s.compound(i, depth)
	}
	return s.scalar(i)
}

// scalar validates a number or a literal, and fails if nothing of that kind starts at i.
func (s *Scanner) scalar(i int) int {
	switch s.peek(i) {
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
		return s.fail(i, "it ends where a value is expected")
	}
	return s.fail(i, invalidValue)
}

const (
	invalidValue = "invalid value"
	noKey        = "expected a key in double quotes"
	noColon      = "expected a colon after the key"
	openObject   = "expected a comma or a closing brace"
	openArray    = "expected a comma or a closing bracket"
)

// maxNesting is how many levels a compound keeps in a word.
const maxNesting = 62

// maxRun is the length up to which a run is remembered.
const maxRun = 16

// A run is the text between two values that are strings, from after the first one to the opening quote of the second. It leads from one
// nesting to another one, whatever the strings are.
type run struct {
	text         []byte
	first, last  uint64 // the first and the last eight bytes of the text, which may overlap
	nesting, end uint64
}

func newRun(text []byte, nesting, end uint64) run {
	r := run{text: text, nesting: nesting, end: end}
	if len(text) >= 8 {
		r.first, r.last = binary.LittleEndian.Uint64(text), binary.LittleEndian.Uint64(text[len(text)-8:])
	}
	return r
}

// follows reports whether the text at i is this run, so that it need not be validated again.
func (r *run) follows(b []byte, i int, nesting uint64) bool {
	end := i + len(r.text)
	switch {
	case nesting != r.nesting || end > len(b):
		return false
	case len(r.text) < 8:
		return string(b[i:end]) == string(r.text)
	}
	return binary.LittleEndian.Uint64(b[i:]) == r.first && binary.LittleEndian.Uint64(b[end-8:]) == r.last
}

// compound validates the object or array that starts at i, and everything in it. Depth is the number of objects and arrays around it.
//
// It does what Object and Array do, without recursion, because conversations have a hundred thousand members. Most of their messages differ
// only in their strings, so what is between two strings is compared with what was there two strings ago, which is several times as fast as
// to validate it. All state is local: as fields of a struct it would cost a third more.
func (s *Scanner) compound(i, depth int) int {
	b, c := s.Text, s.Text[i]
	nesting := uint64(1) // a one, then a bit for each level: one for an object, zero for an array
	var runs [2]run
	expected, last := 0, 0 // the run that is expected, and the end of the last value that is a string
	var before uint64      // the nesting there
	for {
		switch c {
		case '"':
			if last > 0 && i-last < maxRun {
				runs[expected] = newRun(b[last:i+1], before, nesting)
				expected ^= 1
			}
			i, nesting, expected = s.stringsAndRuns(i, nesting, &runs, expected)
			last, before = i, nesting
		case '{', '[':
			level := depth + bits.Len64(nesting)
			if nesting>>maxNesting != 0 {
				i = s.Value(i, level-1)
				break
			}
			if level > maxDepth {
				return s.tooDeep(i)
			}
			nesting = nesting<<1 | uint64(c>>5&1) // this bit is set in a brace, but not in a bracket
			closing := c + 2
			if i, c = s.next(i + 1); c != closing {
				goto member
			}
		default:
			i = s.scalar(i)
		}
		if i == Failed {
			return Failed
		}

		// Closing brackets, up to a comma or the end.
		for i, c = s.next(i); c != ','; i, c = s.next(i + 1) {
			switch {
			case nesting&1 == 1 && c != '}':
				return s.fail(i, openObject)
			case nesting&1 == 0 && c != ']':
				return s.fail(i, openArray)
			}
			if nesting >>= 1; nesting == 1 {
				return i + 1
			}
		}
		i, c = s.next(i + 1)

	member:
		if nesting&1 == 0 {
			continue // an element of an array has no key
		}
		if c != '"' {
			return s.fail(i, noKey)
		}
		if i = s.String(i); i == Failed {
			return Failed
		}
		if i, c = s.next(i); c != ':' {
			return s.fail(i, noColon)
		}
		i, c = s.next(i + 1)
	}
}

// stringsAndRuns validates the string at i, and what follows it as long as that is the expected run and another string. It returns the offset
// after the last string, the nesting there, and the run that was expected.
//
// It is a function of its own, with the beginning of String in it, because it has few enough variables for the registers: within compound, it
// took half as long again.
func (s *Scanner) stringsAndRuns(i int, nesting uint64, runs *[2]run, expected int) (int, uint64, int) {
	b := s.Text
	for {
		i++
		if uint(i)+16 > uint(len(b)) { // unsigned, so that the compiler need not check the bounds below
			i = s.longString(i)
		} else {
			n, found := i, special(binary.LittleEndian.Uint64(b[i:i+8]))&highs
			if found == 0 {
				n, found = i+8, special(binary.LittleEndian.Uint64(b[i+8:i+16]))&highs
			}
			if n += bits.TrailingZeros64(found) / 8; found != 0 && b[n] == '"' {
				i = n + 1
			} else {
				i = s.longString(i)
			}
		}
		r := &runs[expected&1]
		if i == Failed || !r.follows(b, i, nesting) {
			return i, nesting, expected
		}
		i += len(r.text) - 1
		nesting = r.end
		expected ^= 1
	}
}

// next skips white space and returns the offset of the next byte, and that byte, or zero at the end.
func (s *Scanner) next(i int) (int, byte) {
	if i < len(s.Text) && s.Text[i] > ' ' {
		return i, s.Text[i]
	}
	i = s.Space(i)
	return i, s.peek(i)
}

// Object validates the object that starts at i. Depth is the number of objects and arrays it is in, itself included. If visit
// is not nil, it is called for each member and has to validate the value, which starts at the given offset: it returns the
// offset after it, or Failed to stop.
func (s *Scanner) Object(i, depth int, visit func(key Span, value int) int) int {
	if depth > maxDepth {
		return s.tooDeep(i)
	}
	i = s.Space(i + 1)
	if s.peek(i) == '}' {
		return i + 1
	}
	for {
		if s.peek(i) != '"' {
			return s.fail(i, noKey)
		}
		key := Span{Start: i + 1}
		if i = s.String(i); i == Failed {
			return Failed
		}
		key.End = i - 1
		if i = s.Space(i); s.peek(i) != ':' {
			return s.fail(i, noColon)
		}
		i = s.Space(i + 1)
		if visit == nil {
			i = s.Value(i, depth)
		} else {
			i = visit(key, i)
		}
		if i == Failed {
			return Failed
		}
		switch i = s.Space(i); s.peek(i) {
		case ',':
			i = s.Space(i + 1)
		case '}':
			return i + 1
		default:
			return s.fail(i, openObject)
		}
	}
}

// Array validates the array that starts at i. Otherwise it is like Object.
func (s *Scanner) Array(i, depth int, visit func(value int) int) int {
	if depth > maxDepth {
		return s.tooDeep(i)
	}
	i = s.Space(i + 1)
	if s.peek(i) == ']' {
		return i + 1
	}
	for {
		if visit == nil {
			i = s.Value(i, depth)
		} else {
			i = visit(i)
		}
		if i == Failed {
			return Failed
		}
		switch i = s.Space(i); s.peek(i) {
		case ',':
			i = s.Space(i + 1)
		case ']':
			return i + 1
		default:
			return s.fail(i, openArray)
		}
	}
}

func (s *Scanner) tooDeep(i int) int {
	return s.fail(i, fmt.Sprintf("it is nested more than %d levels deep", maxDepth))
}

func (s *Scanner) literal(i int, word string) int {
	if len(s.Text)-i < len(word) || string(s.Text[i:i+len(word)]) != word {
		return s.fail(i, invalidValue)
	}
	return i + len(word)
}

// Number validates the number that starts at i.
func (s *Scanner) Number(i int) int {
	if s.Text[i] == '-' {
		i++
	}
	if s.peek(i) == '0' {
		i++ // no digit may follow: 01 is invalid
	} else if i = s.digits(i); i == Failed {
		return Failed
	}
	if s.peek(i) == '.' {
		if i = s.digits(i + 1); i == Failed {
			return Failed
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

// digits validates one digit or more.
func (s *Scanner) digits(i int) int {
	from := i
	for i < len(s.Text) && '0' <= s.Text[i] && s.Text[i] <= '9' {
		i++
	}
	if i == from {
		return s.fail(i, "expected a digit in the number")
	}
	return i
}

// Words in which every byte is 01, or 80. With them, eight bytes are compared at a time.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special sets the high bit of those bytes of a word that need a closer look within a string: quotes, control characters,
// backslashes, and bytes that are not ASCII. Only the lowest of the bits is exact: those above may result from a borrow.
func special(w uint64) uint64 {
	// Flipping the second bit moves the quote (22 hexadecimal) next to the control characters, which end at 1f.
	return w | (w ^ ones*2 - ones*0x21) | (w ^ ones*'\\' - ones)
}

// quoteOrBackslash is like special for quotes and backslashes alone.
func quoteOrBackslash(w uint64) uint64 {
	quote, slash := w^ones*'"', w^ones*'\\'
	return ((quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// String validates the string whose opening quote is at i.
func (s *Scanner) String(i int) int {
	i++
	if b := s.Text[i:]; len(b) >= 16 { // keys, roles and the like are short
		n, found := 0, special(binary.LittleEndian.Uint64(b))&highs
		if found == 0 {
			n, found = 8, special(binary.LittleEndian.Uint64(b[8:]))&highs
		}
		if n += bits.TrailingZeros64(found) / 8; found != 0 && b[n&15] == '"' {
			return i + n + 1
		}
	}
	return s.longString(i)
}

// manyPlain is how many bytes without a special one announce that there will be many more, as in an image. A line of text is shorter.
const manyPlain = 128

// longString validates a string from i on. It takes sixteen bytes at a time, because prompts are long.
func (s *Scanner) longString(i int) int {
	b := s.Text
	plain := 0
	for p := b[i:]; len(p) >= 16; p = b[i:] {
		found, second := special(binary.LittleEndian.Uint64(p)), special(binary.LittleEndian.Uint64(p[8:]))
		if (found|second)&highs == 0 {
			i += 16
			if plain += 16; plain >= manyPlain {
				i += plainBlocks(b[i:])
			}
			continue
		}
		plain = 0
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
			if i = s.char(i); i == Failed {
				return Failed
			}
		}
	}
	for i < len(b) && b[i] != '"' {
		if i = s.char(i); i == Failed {
			return Failed
		}
	}
	if i >= len(b) {
		return s.fail(len(b), truncatedString)
	}
	return i + 1
}

// plainBlocks returns how many bytes at the start need no closer look within a string, in blocks of 32.
func plainBlocks(b []byte) int {
	p := b
	for len(p) >= 32 {
		found := special(binary.LittleEndian.Uint64(p)) | special(binary.LittleEndian.Uint64(p[8:])) |
			special(binary.LittleEndian.Uint64(p[16:])) | special(binary.LittleEndian.Uint64(p[24:]))
		if found&highs != 0 {
			break
		}
		p = p[32:]
	}
	return len(b) - len(p)
}

// shortEscape has the bytes that form an escape together with a backslash before them.
var shortEscape = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

const truncatedString = "it ends inside a string; it may have been truncated"

// char validates what starts at i within a string: an escape, an ASCII character, or all text up to the next one of these.
func (s *Scanner) char(i int) int {
	switch c := s.Text[i]; {
	case c == '\\':
		return s.escape(i)
	case c >= utf8.RuneSelf:
		return s.nonASCII(i)
	case c < ' ':
		return s.fail(i, "a string contains a control character; escape it, a line break as \\n")
	}
	return i + 1
}

// nonASCII validates the UTF-8 from i to the next quote, backslash or control character. In most languages that is the whole
// string, so it also takes eight bytes at a time.
func (s *Scanner) nonASCII(i int) int {
	end := i
	for ; end+8 <= len(s.Text); end += 8 {
		w := binary.LittleEndian.Uint64(s.Text[end:])
		if found := (w-ones*' ')&^w&highs | quoteOrBackslash(w); found != 0 {
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
			return s.fail(i, "a string is not valid UTF-8; encode the body in UTF-8")
		}
		i += n
	}
}

// escape validates the escape whose backslash is at i. Half a surrogate pair is an error, because decoders disagree on it.
func (s *Scanner) escape(i int) int {
	if i+1 >= len(s.Text) {
		return s.fail(i, truncatedString)
	}
	if shortEscape[s.Text[i+1]] {
		return i + 2
	}
	if s.Text[i+1] != 'u' {
		return s.fail(i, "invalid escape; write a backslash as \\\\")
	}
	if _, n := unicodeEscape(s.Text[i:]); n > 0 {
		return i + n
	}
	return s.fail(i, "invalid \\u escape; it takes four hexadecimal digits, and surrogates come in pairs")
}
