package jsonspan

import (
	"bytes"
	"strings"
)

// An Edit changes the outermost members of a scanned object. The bytes of what does not change are not copied. Keys are compared
// unescaped and without regard to case (bytes.EqualFold), as the most tolerant servers do. New values must be valid JSON and
// must not change while the segments are in use.
type Edit struct {
	o       *Object
	members []change // of the object's members, then the added ones
	changed bool
}

// A change is what an edit did to a member.
type change struct {
	key     string // the new key, if renamed
	renamed bool   // true for every added member
	dropped bool
	value   []byte // the new value, or nil to keep the old one
}

// usualAdded is how many members are usually added at most.
const usualAdded = 4

// Reset begins a new edit of a scanned object.
func (e *Edit) Reset(o *Object) {
	n := len(o.Members)
	if cap(e.members) < n {
		e.members = make([]change, n, n+usualAdded)
	}
	clear(e.members[:cap(e.members)])
	*e = Edit{o: o, members: e.members[:n]}
}

// Has reports whether the object, as edited so far, has the key.
func (e *Edit) Has(key string) bool { return e.find(key, 0) >= 0 }

// Get returns the value that a key has now.
func (e *Edit) Get(key string) (value []byte, ok bool) {
	if i := e.find(key, 0); i >= 0 {
		return e.value(i), true
	}
	return nil, false
}

// find returns the index of the first member at or after from that has the key, or -1.
func (e *Edit) find(key string, from int) int {
	for i := from; i < len(e.members); i++ {
		if !e.members[i].dropped && e.hasKey(i, key) {
			return i
		}
	}
	return -1
}

func (e *Edit) hasKey(i int, key string) bool {
	if e.members[i].renamed {
		return strings.EqualFold(e.members[i].key, key)
	}
	raw := e.o.Members[i].Key.Of(e.o.Body)
	if len(raw) == len(key) || Ambiguous(raw) {
		return bytes.EqualFold(Unescape(raw), []byte(key))
	}
	return false
}

func (e *Edit) value(i int) []byte {
	if e.members[i].value != nil {
		return e.members[i].value
	}
	return e.o.Members[i].Value.Of(e.o.Body)
}

// Set replaces the value of a key, or adds the member at the end. If several members have the key, one is left, spelled as given.
func (e *Edit) Set(key string, value []byte) {
	e.changed = true
	i := e.find(key, 0)
	if i < 0 {
		e.members = append(e.members, change{key: key, renamed: true, value: value})
		return
	}
	e.members[i].value = value
	e.keepOnly(i, key)
}

// SetString is Set for a string. It changes nothing if the key already has that value, once.
func (e *Edit) SetString(key, value string) {
	if i := e.find(key, 0); i >= 0 && e.find(key, i+1) < 0 && EqualString(e.value(i), value) {
		return
	}
	e.Set(key, AppendString(make([]byte, 0, len(value)+2), value))
}

// keepOnly drops the other members that have a key, and spells this one's as given.
func (e *Edit) keepOnly(i int, key string) {
	for j := e.find(key, 0); j >= 0; j = e.find(key, j+1) {
		e.members[j].dropped = j != i
	}
	if e.members[i].renamed || string(e.o.Members[i].Key.Of(e.o.Body)) != key {
		e.members[i].key, e.members[i].renamed = key, true
	}
}

// Default adds the member if the key is absent.
func (e *Edit) Default(key string, value []byte) {
	if !e.Has(key) {
		e.Set(key, value)
	}
}

// Drop removes every member that has the key.
func (e *Edit) Drop(key string) {
	for i := e.find(key, 0); i >= 0; i = e.find(key, i+1) {
		e.members[i].dropped, e.changed = true, true
	}
}

// Rename changes the key of a member and drops members that already have the new key. If several members have the old key, the
// last one is kept, as most servers do.
func (e *Edit) Rename(from, to string) {
	last := -1
	for i := e.find(from, 0); i >= 0; i = e.find(from, i+1) {
		last = i
	}
	if last < 0 {
		return
	}
	e.changed = true
	e.keepOnly(last, from)
	e.members[last].key, e.members[last].renamed = to, true
	e.keepOnly(last, to)
}

// Bytes returns a copy of the edited object.
func (e *Edit) Bytes() []byte { return bytes.Join(e.Segments(), nil) }

// Segments returns the edited object in pieces, most of which share the bytes of the original. They stay valid after the next
// Reset.
func (e *Edit) Segments() [][]byte {
	if !e.changed {
		return [][]byte{e.o.Body}
	}
	s := splicer{body: e.o.Body, segments: make([][]byte, 0, 8)}
	tail := e.o.Close
	if n := len(e.o.Members); n > 0 {
		s.end, tail = e.o.Members[0].Key.Start-1, e.o.Members[n-1].Value.End
	} else {
		s.end = e.o.Close
	}
	first := true
	for i := range e.members {
		if !e.members[i].dropped {
			e.splice(&s, i, first)
			first = false
		}
	}
	s.keep(tail, len(e.o.Body))
	s.flush()
	return s.segments
}

// splice adds one member, and the comma before it unless it is the first.
func (e *Edit) splice(s *splicer, i int, first bool) {
	c := &e.members[i]
	if i >= len(e.o.Members) {
		if !first {
			s.put(',')
		}
		s.putKey(c.key)
		s.put(':')
		s.putValue(c.value)
		return
	}
	m := e.o.Members[i]
	if !first {
		s.keep(e.o.Members[i-1].Value.End, m.Key.Start-1) // a comma, with white space
	}
	if c.renamed {
		s.putKey(c.key)
	} else {
		s.keep(m.Key.Start-1, m.Key.End+1)
	}
	s.keep(m.Key.End+1, m.Value.Start)
	if c.value != nil {
		s.putValue(c.value)
	} else {
		s.keep(m.Value.Start, m.Value.End)
	}
}

// A splicer collects segments: ranges of the old body, and new bytes between them.
type splicer struct {
	body       []byte
	segments   [][]byte
	start, end int    // the range of the old body that is not in segments yet
	added      []byte // new bytes after that range
}

// keep continues with a range of the old body.
func (s *splicer) keep(start, end int) {
	if start == end {
		return
	}
	if start != s.end || len(s.added) > 0 {
		s.flush()
		s.start = start
	}
	s.end = end
}

// put continues with new bytes.
func (s *splicer) put(b ...byte) { s.added = append(s.added, b...) }

func (s *splicer) putKey(key string) { s.added = AppendString(s.added, key) }

// maxCopied is the length up to which new values are copied: for a short value, one more write costs more than the copy.
const maxCopied = 256

func (s *splicer) putValue(b []byte) {
	if len(b) <= maxCopied {
		s.put(b...)
		return
	}
	s.flush()
	s.segments = append(s.segments, b)
}

func (s *splicer) flush() {
	if s.start < s.end {
		s.segments = append(s.segments, s.body[s.start:s.end])
	}
	if len(s.added) > 0 {
		s.segments = append(s.segments, s.added)
	}
	s.start, s.added = s.end, nil
}
