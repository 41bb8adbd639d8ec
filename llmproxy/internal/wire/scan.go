package wire

import "fmt"

const (
	// maxDepth bounds nesting: far above what any schema needs, far below what makes a server's recursive parser fail.
	maxDepth = 512
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
	s := scanner{b: body}
	i := s.space(0)
	if i == len(body) || body[i] != '{' {
		s.fail(i, noObject(body[i:]))
		return s.err
	}
	end := s.object(i, 1, func(m Member) bool {
		if len(o.Members) == maxMembers {
			s.fail(m.Key.Start-1, fmt.Sprintf("the object has more than %d members", maxMembers))
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
		s.atEnd(end)
	}
	return s.result()
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
		if raw := o.Members[i].Key.Of(o.Body); string(raw) == key || string(unescape(raw)) == key {
			return o.Members[i].Value.Of(o.Body), true
		}
	}
	return nil, false
}
