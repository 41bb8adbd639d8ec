package caching

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lookup is what the cache has under key(1), of whatever age.
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

// stream is an answer as it is kept, asWhole what was made of one that Lookup gave.
func stream(text string) *Entry {
	return &Entry{Form: Events, Created: time.Now().Truncate(time.Millisecond), TTL: time.Hour, Body: []byte("data: " + text + "\n\n")}
}

func asWhole(e *Entry, text string) *Entry {
	whole := *e
	whole.Form, whole.Body = Whole, []byte(text)
	return &whole
}

func TestBothForms(t *testing.T) {
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

	put(stream("one"))
	expect("one form", "data: one\n\n", "data: one\n\n")
	one := lookup(c, Whole)
	c.Also("a", key(1), asWhole(one, "one"))
	expect("both forms", "data: one\n\n", "one")
	if n, bytes, _ := c.Usage(); n != 1 || bytes < 2*overhead {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}

	put(stream("two"))
	expect("a new answer", "data: two\n\n", "data: two\n\n")
	c.Also("a", key(1), asWhole(one, "one"))
	expect("the old one in another form, late", "data: two\n\n", "data: two\n\n")

	c.Also("a", key(1), asWhole(lookup(c, Whole), "two"))
	expect("both forms again", "data: two\n\n", "two")
	if n, err := c.Purge(context.Background(), "b"); n != 0 || err != nil {
		t.Errorf("%d purged: %v", n, err)
	}
	expect("another model purged", "data: two\n\n", "two")
	if n, err := c.Purge(context.Background(), "a"); n != 1 || err != nil {
		t.Errorf("%d purged: %v", n, err)
	}
	expect("purged", "", "")
	if n, bytes, _ := c.Usage(); n != 0 || bytes != 0 {
		t.Errorf("%d entries of %d bytes are left", n, bytes)
	}
	c.Also("a", key(1), asWhole(one, "one"))
	expect("purged, late", "", "")
}

// What was unpacked once is given again as it is.
func TestReadyIsUnpackedOnce(t *testing.T) {
	t.Parallel()
	c := New(1 << 20)
	defer c.Close()
	long := stream(strings.Repeat("word ", 1000))
	c.Memory.Put("a", []Item{{key(1), long.Marshal()}}, long.TTL)
	first, second := lookup(c, Events), lookup(c, Events)
	if first != second || !bytes.Equal(first.Body, long.Body) {
		t.Error("it was unpacked twice, or wrongly")
	}
}

func TestReadyExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := New(1 << 20)
		defer c.Close()
		e := stream("one")
		c.Memory.Put("a", []Item{{key(1), e.Marshal()}}, e.TTL)
		c.Also("a", key(1), asWhole(lookup(c, Whole), "one"))
		if n := c.ready.bytes(); n == 0 || bodyOf(lookup(c, Whole)) != "one" {
			t.Errorf("%d bytes are ready", n)
		}
		<-time.After(e.TTL + 2*time.Second)
		if n := c.ready.bytes(); n != 0 || lookup(c, Whole) != nil {
			t.Errorf("%d bytes are left", n)
		}
	})
}

func TestReadyIsBounded(t *testing.T) {
	t.Parallel()
	const max = 4 << 20
	c := New(max)
	defer c.Close()
	for i := range 1000 {
		e := stream(strings.Repeat("word ", 1000))
		c.Memory.Put("a", []Item{{key(i), e.Marshal()}}, e.TTL)
		if e, found := c.Lookup(context.Background(), c.Memory, "a", []Key{key(i)}, Events, &Control{}); e == nil || found != key(i) {
			t.Fatal(i)
		}
	}
	if n := c.ready.bytes(); n > max/readyPart || n == 0 {
		t.Errorf("%d bytes are ready", n)
	}
	c.Resize(max / 4)
	if _, n, _ := c.Usage(); n > max/4 {
		t.Errorf("%d bytes after the change", n)
	}
}
