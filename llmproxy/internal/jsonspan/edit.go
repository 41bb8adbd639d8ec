package jsonspan

import (
	"bytes"
	"strings"
)

// An Edit changes the outermost members of a scanned object by splicing its bytes: what is not changed is never copied.
// Keys are compared unescaped and folded (bytes.EqualFold), as the most tolerant server does. Values that are given must
// be JSON, and stay as they are while a Body lives.
type Edit struct {
	o       *Object
	entries []entry // the object's members, then those that were added
	changed bool
}

// An entry is what became of a member.
type entry struct {
	key     string // where renamed
	renamed bool   // true for every member that was added
	dropped bool
	value   []byte // the new value; nil where it is the old one
}

// usualAdded is how many members an upstream adds at most, as a rule.
const usualAdded = 4

// Reset begins a new edit of a scanned object, and forgets the last one.
func (e *Edit) Reset(o *Object) {
	n := len(o.Members)
	if cap(e.entries) < n {
		e.entries = make([]entry, n, n+usualAdded)
	}
	clear(e.entries[:cap(e.entries)])
	*e = Edit{o: o, entries: e.entries[:n]}
}

// Has tells whether the body as edited so far has the member.
func (e *Edit) Has(key string) bool { return e.find(key, 0) >= 0 }

// find gives the index of the first member from an index on that has the key, or -1.
func (e *Edit) find(key string, from int) int {
	for i := from; i < len(e.entries); i++ {
		if !e.entries[i].dropped && e.named(i, key) {
			return i
		}
	}
	return -1
}

func (e *Edit) named(i int, key string) bool {
	if e.entries[i].renamed {
		return strings.EqualFold(e.entries[i].key, key)
	}
	raw := e.o.Members[i].Key.Of(e.o.Body)
	if len(raw) == len(key) || Ambiguous(raw) {
		return bytes.EqualFold(Unescape(raw), []byte(key))
	}
	return false
}

// value gives the value that a member has now.
func (e *Edit) value(i int) []byte {
	if e.entries[i].value != nil {
		return e.entries[i].value
	}
	return e.o.Members[i].Value.Of(e.o.Body)
}

// Set puts a value in the place of the member's, or adds the member as the last one. Of several members only one is left,
// spelled as given.
func (e *Edit) Set(key string, value []byte) {
	e.changed = true
	i := e.find(key, 0)
	if i < 0 {
		e.entries = append(e.entries, entry{key: key, renamed: true, value: value})
		return
	}
	e.entries[i].value = value
	e.keepOnly(i, key)
}

// keepOnly drops the other members of a name, and spells that of this one as given.
func (e *Edit) keepOnly(i int, key string) {
	for j := e.find(key, 0); j >= 0; j = e.find(key, j+1) {
		e.entries[j].dropped = j != i
	}
	if e.entries[i].renamed || string(e.o.Members[i].Key.Of(e.o.Body)) != key {
		e.entries[i].key, e.entries[i].renamed = key, true
	}
}

// Default adds the member if it is not there.
func (e *Edit) Default(key string, value []byte) {
	if !e.Has(key) {
		e.Set(key, value)
	}
}

// Drop takes out every member of the name.
func (e *Edit) Drop(key string) {
	for i := e.find(key, 0); i >= 0; i = e.find(key, i+1) {
		e.entries[i].dropped, e.changed = true, true
	}
}

// Rename gives a member another key. A member that has that key already goes: the renamed one's value wins, and of several
// to be renamed the last one's, as most servers take them.
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
	e.entries[last].key, e.entries[last].renamed = to, true
	e.keepOnly(last, to)
}

// SetString puts a string in the place of the member's value; where it stands already, once, nothing changes.
func (e *Edit) SetString(key, value string) {
	if i := e.find(key, 0); i >= 0 && e.find(key, i+1) < 0 {
		if raw, ok := Inside(e.value(i)); ok && string(Unescape(raw)) == value {
			return
		}
	}
	e.Set(key, AppendString(make([]byte, 0, len(value)+2), value))
}

// Get returns the value that the member has now.
func (e *Edit) Get(key string) (value []byte, ok bool) {
	if i := e.find(key, 0); i >= 0 {
		return e.value(i), true
	}
	return nil, false
}

// Body gives the edited body. It stays valid after the next Reset.
func (e *Edit) Body() Body {
	if !e.changed {
		return NewBody(e.o.Body)
	}
	p := splicer{body: e.o.Body, segments: make([][]byte, 0, 8)}
	p.end = e.opening()
	last := -1
	for i := range e.entries {
		if !e.entries[i].dropped {
			e.splice(&p, i, last)
			last = i
		}
	}
	if n := len(e.o.Members); n > 0 {
		p.keep(e.o.Members[n-1].Value.End, len(e.o.Body))
	} else {
		p.keep(e.o.Close, len(e.o.Body))
	}
	p.flush()
	return Body{segments: p.segments}
}

// opening is the length of what stands before the first member: the brace, with white space.
func (e *Edit) opening() int {
	if len(e.o.Members) == 0 {
		return e.o.Close
	}
	return e.o.Members[0].Key.Start - 1
}

// splice appends one member, and the comma before it unless it is the first (last is -1).
func (e *Edit) splice(p *splicer, i, last int) {
	change := &e.entries[i]
	if i >= len(e.o.Members) {
		if last >= 0 {
			p.put(',')
		}
		p.putKey(change.key)
		p.put(':')
		p.value(change.value)
		return
	}
	m := e.o.Members[i]
	if last >= 0 {
		p.keep(e.o.Members[i-1].Value.End, m.Key.Start-1) // a comma, with white space
	}
	if change.renamed {
		p.putKey(change.key)
	} else {
		p.keep(m.Key.Start-1, m.Key.End+1)
	}
	p.keep(m.Key.End+1, m.Value.Start)
	if change.value != nil {
		p.value(change.value)
	} else {
		p.keep(m.Value.Start, m.Value.End)
	}
}

// A splicer collects segments: runs of the old body, and new bytes in between.
type splicer struct {
	body       []byte
	segments   [][]byte
	start, end int    // the run of the old body that is not in segments yet
	fresh      []byte // new bytes that follow on it
}

// keep goes on with a part of the old body.
func (p *splicer) keep(start, end int) {
	if start == end {
		return
	}
	if start != p.end || len(p.fresh) > 0 {
		p.flush()
		p.start = start
	}
	p.end = end
}

// put goes on with new bytes.
func (p *splicer) put(b ...byte) { p.fresh = append(p.fresh, b...) }

func (p *splicer) putKey(key string) { p.fresh = AppendString(p.fresh, key) }

// maxCopied bounds the new values that are copied: below it one more Write costs more.
const maxCopied = 256

// value goes on with a new value.
func (p *splicer) value(b []byte) {
	if len(b) <= maxCopied {
		p.put(b...)
		return
	}
	p.flush()
	p.segments = append(p.segments, b)
}

func (p *splicer) flush() {
	if p.start < p.end {
		p.segments = append(p.segments, p.body[p.start:p.end])
	}
	if len(p.fresh) > 0 {
		p.segments = append(p.segments, p.fresh)
	}
	p.start, p.fresh = p.end, nil
}
