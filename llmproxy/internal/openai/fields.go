package openai

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// fields are the members of an object that is joined from parts, in the order in which they first came.
type fields []field

type field struct {
	key    []byte
	value  []byte
	isText bool // value is the raw text of a string, as far as it was received
}

// get returns the field of a key and adds it if it is missing.
func (f *fields) get(key []byte) *field {
	i := slices.IndexFunc(*f, func(x field) bool { return bytes.Equal(x.key, key) })
	if i < 0 {
		i = len(*f)
		*f = append(*f, field{key: bytes.Clone(key)})
	}
	return &(*f)[i]
}

// value returns the value of a key, or nil if it is not there.
func (f fields) value(key string) []byte {
	for _, x := range f {
		if string(x.key) == key {
			return x.value
		}
	}
	return nil
}

// text returns the decoded string of a key, or "" without one.
func (f fields) text(key string) string {
	text, _ := jsonspan.String(f.value(key))
	return text
}

// isNull reports whether the field has had no value other than null so far.
func (f *field) isNull() bool { return f.value == nil || !f.isText && jsonspan.IsNull(f.value) }

// has reports whether there is a field of that key.
func (f fields) has(key string) bool {
	return slices.ContainsFunc(f, func(x field) bool { return string(x.key) == key })
}

// addConstant adds a member that may be repeated but must not change, because there is no rule for joining different values. An
// empty value may be filled in later, as Azure does with its filter results.
func (f *fields) addConstant(key, value []byte) bool {
	x := f.get(key)
	switch {
	case x.isText:
		return isEmpty(value)
	case x.value == nil || isEmpty(x.value) && !isEmpty(value):
		x.value = bytes.Clone(value)
		return true
	}
	return isEmpty(value) || bytes.Equal(x.value, value)
}

// keepFirst adds a member whose first value counts.
func (f *fields) keepFirst(key, value []byte) {
	if x := f.get(key); x.isNull() {
		x.value = bytes.Clone(value)
	}
}

// keepLast adds a member whose last value counts.
func (f *fields) keepLast(key, value []byte) {
	if x := f.get(key); x.value == nil || !jsonspan.IsNull(value) {
		x.value = bytes.Clone(value)
	}
}

// addText appends to a string, whose parts keep their escapes, or to an array of parts, which Mistral's models send.
func (f *fields) addText(key, value []byte) bool {
	x := f.get(key)
	switch {
	case jsonspan.IsNull(value):
		if x.value == nil {
			x.value = []byte("null")
		}
		return true
	case value[0] == '[':
		return !x.isText && f.addArray(key, value)
	}
	raw, ok := jsonspan.RawString(value)
	if !ok || !x.isText && !x.isNull() {
		return false
	}
	if !x.isText {
		x.isText, x.value = true, []byte{}
	}
	x.value = append(x.value, raw...)
	return true
}

// addArray appends to an array.
func (f *fields) addArray(key, value []byte) bool {
	if jsonspan.IsNull(value) {
		f.keepFirst(key, value)
		return true
	}
	if value[0] != '[' {
		return false
	}
	x := f.get(key)
	old, added := elements(x.value), elements(value)
	switch {
	case x.isNull() || len(old) == 0:
		x.value = bytes.Clone(value)
	case len(added) > 0:
		x.value = slices.Concat([]byte{'['}, old, []byte{','}, added, []byte{']'})
	}
	return true
}

// elements returns what is between the brackets of an array; nothing if the value is not an array.
func elements(array []byte) []byte {
	if len(array) < 2 || array[0] != '[' {
		return nil
	}
	return bytes.TrimSpace(array[1 : len(array)-1])
}

// appendJSON appends the members without braces.
func (f fields) appendJSON(b []byte) []byte {
	for i, x := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if x.isText {
			b = append(append(append(append(append(b, '"'), x.key...), `":"`...), x.value...), '"')
		} else {
			b = appendMember(b, x.key, x.value)
		}
	}
	return b
}
