package wire

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
	if len(raw) == len(key) || odd(raw) {
		return bytes.EqualFold(unescape(raw), []byte(key))
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

// SetModel puts a model's name in; where it stands already nothing changes.
func (e *Edit) SetModel(name string) {
	const key = "model"
	if i := e.find(key, 0); i >= 0 && e.find(key, i+1) < 0 {
		if raw, ok := inside(e.value(i)); ok && string(unescape(raw)) == name {
			return
		}
	}
	e.Set(key, appendString(make([]byte, 0, len(name)+2), name))
}

// AskUsage sees to it that the stream counts its tokens: stream_options.include_usage becomes true.
func (e *Edit) AskUsage(h *Head) {
	if h.IncludeUsage {
		return
	}
	const key = "stream_options"
	if i := e.find(key, 0); i >= 0 {
		var options Object
		if options.Scan(e.value(i)) == nil {
			var inner Edit
			inner.Reset(&options)
			inner.Set(includeUsage, []byte("true"))
			e.Set(key, bytes.Join(inner.Body().segments, nil))
			return
		}
	}
	e.Set(key, []byte(`{"include_usage":true}`))
}
