package wire

import "errors"

var (
	errNoObject = errors.New("not a JSON object")
	errNoArray  = errors.New("not a JSON array")
)

// EachMember visits the members of an object, keys without their quotes and as they stand, until visit returns false. It is
// safe on any bytes and allocates nothing. What it did not come to it did not check.
func EachMember(object []byte, visit func(key, value []byte) bool) error {
	s := scanner{b: object}
	i := s.space(0)
	if s.peek(i) != '{' {
		return errNoObject
	}
	s.object(i, 1, func(m Member) bool { return visit(m.Key.Of(object), m.Value.Of(object)) })
	return s.result()
}

// EachElement visits the elements of an array until visit returns false; otherwise it is like EachMember.
func EachElement(array []byte, visit func(value []byte) bool) error {
	s := scanner{b: array}
	i := s.space(0)
	if s.peek(i) != '[' {
		return errNoArray
	}
	s.array(i, 1, func(element Span) bool { return visit(element.Of(array)) })
	return s.result()
}

// null tells whether a value says nothing.
func null(value []byte) bool { return string(value) == "null" }
