package wire

import (
	"bytes"
	"slices"
)

// fields are the members of an object that is put together from parts, in the order in which they came.
type fields []fieldOf

type fieldOf struct {
	key   []byte
	value []byte
	text  bool // value is the inside of a string that grows
}

// index is where a member stands, negative if it did not come.
func (f *fields) index(key []byte) int {
	return slices.IndexFunc(*f, func(x fieldOf) bool { return bytes.Equal(x.key, key) })
}

func (f *fields) at(key []byte) *fieldOf {
	i := f.index(key)
	if i < 0 {
		*f = append(*f, fieldOf{key: bytes.Clone(key)})
		i = len(*f) - 1
	}
	return &(*f)[i]
}

// same takes a member that may come once, or again as it was; false if it changed, since nobody knows then what the whole is.
func (f *fields) same(key, value []byte) bool {
	x := f.at(key)
	if x.value == nil || null(x.value) {
		x.value = bytes.Clone(value)
		return !x.text
	}
	return !x.text && (null(value) || bytes.Equal(x.value, value))
}

// first keeps the first of many, last the last one.
func (f *fields) first(key, value []byte) bool {
	if x := f.at(key); x.value == nil || null(x.value) {
		x.value = bytes.Clone(value)
	}
	return true
}

func (f *fields) last(key, value []byte) bool {
	if x := f.at(key); x.value == nil || !null(value) {
		x.value = bytes.Clone(value)
	}
	return true
}

// grow appends to a string. Its parts stay escaped as they were.
func (f *fields) grow(key, value []byte) bool {
	x := f.at(key)
	if null(value) {
		if x.value == nil {
			x.value = []byte("null")
		}
		return true
	}
	part, ok := inside(value)
	if !ok || x.value != nil && !x.text && !null(x.value) {
		return false
	}
	if !x.text {
		x.text, x.value = true, []byte{}
	}
	x.value = append(x.value, part...)
	return true
}

// appendJSON appends the members without braces.
func (f fields) appendJSON(b []byte) []byte {
	for i, x := range f {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), x.key...), `":`...)
		if x.text {
			b = append(append(append(b, '"'), x.value...), '"')
		} else {
			b = append(b, x.value...)
		}
	}
	return b
}
