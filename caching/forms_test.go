package caching

import (
	"context"
	"testing"
	"time"
)

// twoForms is an answer as it was kept, and brought into another form.
func twoForms(text string) (stream, whole *Entry) {
	stream = &Entry{Form: Events, Created: time.Now().Truncate(time.Millisecond), TTL: time.Hour, Body: []byte("data: " + text + "\n\n")}
	other := *stream
	other.Form, other.Body = Whole, []byte(text)
	return stream, &other
}

func TestBothForms(t *testing.T) {
	t.Parallel()
	ctx, any := context.Background(), &Control{}
	m := NewMemory(1 << 20)
	defer m.Close()
	body := func(want Form) string {
		t.Helper()
		e := Lookup(ctx, m, "a", key(1), want, any)
		if e == nil {
			return ""
		}
		return string(e.Body)
	}
	expect := func(when, events, whole string) {
		t.Helper()
		if e, w := body(Events), body(Whole); e != events || w != whole {
			t.Errorf("%s: %q and %q, want %q and %q", when, e, w, events, whole)
		}
	}
	put := func(e *Entry) { m.Put("a", []Item{{key(1), e.Marshal()}}, e.TTL) }

	stream, whole := twoForms("one")
	put(stream)
	expect("one form", "data: one\n\n", "data: one\n\n")
	found := Lookup(ctx, m, "a", key(1), Whole, any)
	m.Also(key(1), found, whole)
	expect("both forms", "data: one\n\n", "one")
	if n, bytes, _ := m.Usage(); n != 1 || bytes < int64(overhead+len(found.kept)+len(whole.Marshal())) {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
	_, other := twoForms("other")
	m.Also(key(1), Lookup(ctx, m, "a", key(1), Events, any), other)
	expect("a third one", "data: one\n\n", "one")

	fresh, _ := twoForms("two")
	put(fresh)
	expect("a new answer", "data: two\n\n", "data: two\n\n")
	m.Also(key(1), found, whole)
	expect("the old one in another form, late", "data: two\n\n", "data: two\n\n")

	found = Lookup(ctx, m, "a", key(1), Whole, any)
	m.Also(key(1), found, other)
	if n, err := m.Purge(ctx, "a"); n != 1 || err != nil {
		t.Errorf("%d purged: %v", n, err)
	}
	expect("purged", "", "")
	m.Also(key(1), found, other)
	expect("purged, late", "", "")
}

// What comes of a store that others write to is an entry or none.
func FuzzInForm(f *testing.F) {
	stream, whole := twoForms("one")
	f.Add(both(stream.Marshal(), whole.Marshal()))
	f.Add(stream.Marshal())
	f.Add([]byte{layoutBoth, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, want := range []Form{Whole, Events, Part} {
			if got := inForm(value, want); len(got) > len(value) {
				t.Errorf("%d bytes of %d", len(got), len(value))
			}
		}
	})
}
