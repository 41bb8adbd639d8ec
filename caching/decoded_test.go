package caching

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lookup returns the entry under key(1), whatever its age.
func lookup(c *Cache, want Form) *Entry {
	e, _ := c.Lookup(context.Background(), c.Memory, "a", []Key{key(0), key(1)}, want, &Control{})
	return e
}

func bodyOf(e *Entry) string {
	if e == nil {
		return ""
	}
	return string(e.Body)
}

func streamEntry(text string) *Entry {
	return &Entry{Form: Events, Created: time.Now().Truncate(time.Millisecond), TTL: time.Hour, Body: []byte("data: " + text + "\n\n")}
}

// converted returns what a caller makes of an entry that Lookup returned in another form than the wanted one.
func converted(e *Entry, text string) *Entry {
	whole := *e
	whole.Form, whole.Body = Whole, []byte(text)
	return &whole
}

func TestConvertedEntryBelongsToItsSource(t *testing.T) {
	t.Parallel()
	c := New(1 << 20)
	defer c.Close()
	expect := func(when, events, whole string) {
		t.Helper()
		if e, w := bodyOf(lookup(c, Events)), bodyOf(lookup(c, Whole)); e != events || w != whole {
			t.Errorf("%s: %q and %q, want %q and %q", when, e, w, events, whole)
		}
	}
	put := func(e *Entry) { c.Memory.Put("a", []Item{{key(1), e.Marshal()}}, e.TTL) }

	put(streamEntry("one"))
	expect("stored", "data: one\n\n", "data: one\n\n")
	one := lookup(c, Whole)
	c.KeepConverted("a", key(1), converted(one, "one"))
	expect("converted", "data: one\n\n", "one")
	if n, bytes, _ := c.Size(); n != 1 || bytes < 2*entryOverhead {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}

	put(streamEntry("two"))
	expect("replaced", "data: two\n\n", "data: two\n\n")
	c.KeepConverted("a", key(1), converted(one, "one"))
	expect("replaced, and the old one converted late", "data: two\n\n", "data: two\n\n")

	c.KeepConverted("a", key(1), converted(lookup(c, Whole), "two"))
	expect("the new one converted", "data: two\n\n", "two")
	if n, err := c.Purge(context.Background(), "b"); n != 0 || err != nil {
		t.Errorf("%d purged of another model: %v", n, err)
	}
	expect("another model purged", "data: two\n\n", "two")
	if n, err := c.Purge(context.Background(), "a"); n != 1 || err != nil {
		t.Errorf("%d purged: %v", n, err)
	}
	expect("purged", "", "")
	if n, bytes, _ := c.Size(); n != 0 || bytes != 0 {
		t.Errorf("%d entries of %d bytes are left", n, bytes)
	}
	c.KeepConverted("a", key(1), converted(one, "one"))
	expect("purged, and converted late", "", "")
}

func TestEntryIsDecompressedOnce(t *testing.T) {
	t.Parallel()
	c := New(1 << 20)
	defer c.Close()
	long := streamEntry(strings.Repeat("word ", 1000))
	c.Memory.Put("a", []Item{{key(1), long.Marshal()}}, long.TTL)
	first, second := lookup(c, Events), lookup(c, Events)
	if first == nil || !bytes.Equal(first.Body, long.Body) {
		t.Errorf("the body is %q", bodyOf(first))
	}
	if first != second {
		t.Error("it was decompressed twice")
	}
}

func TestDecodedEntriesExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(1 << 20)
		defer c.Close()
		e := streamEntry("one")
		c.Memory.Put("a", []Item{{key(1), e.Marshal()}}, e.TTL)
		c.KeepConverted("a", key(1), converted(lookup(c, Whole), "one"))
		if n := c.decoded.size(); n == 0 || bodyOf(lookup(c, Whole)) != "one" {
			t.Errorf("%d bytes are kept decoded", n)
		}
		<-time.After(e.TTL + 2*time.Second)
		if n := c.decoded.size(); n != 0 || lookup(c, Whole) != nil {
			t.Errorf("%d bytes are left after the TTL", n)
		}
	})
}

func TestDecodedEntriesAreBounded(t *testing.T) {
	t.Parallel()
	const maxSize = 4 << 20
	c := New(maxSize)
	defer c.Close()
	for i := range 1000 {
		e := streamEntry(strings.Repeat("word ", 1000))
		c.Memory.Put("a", []Item{{key(i), e.Marshal()}}, e.TTL)
		if e, found := c.Lookup(context.Background(), c.Memory, "a", []Key{key(i)}, Events, &Control{}); e == nil || found != key(i) {
			t.Fatalf("entry %d is not found", i)
		}
	}
	if n := c.decoded.size(); n > maxSize/decodedShare || n == 0 {
		t.Errorf("%d bytes are kept decoded, at most %d are allowed", n, maxSize/decodedShare)
	}
	c.Resize(maxSize / 4)
	if _, n, _ := c.Size(); n > maxSize/4 {
		t.Errorf("%d bytes after Resize(%d)", n, maxSize/4)
	}
}
