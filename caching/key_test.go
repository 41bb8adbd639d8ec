package caching

import "testing"

func TestKeysDependOnAllFields(t *testing.T) {
	t.Parallel()
	seen := map[Key]string{}
	for name, fields := range map[string][][2]string{
		"none":          {},
		"empty":         {{"", ""}},
		"a":             {{"a", "b"}},
		"boundary":      {{"ab", ""}},
		"two":           {{"a", "b"}, {"c", "d"}},
		"other order":   {{"c", "d"}, {"a", "b"}},
		"joined":        {{"a", "b\x01c\x01d"}},
		"other value":   {{"a", "c"}},
		"other name":    {{"b", "b"}},
		"one more":      {{"a", "b"}, {"", ""}},
		"a key":         {{"key", "alice"}, {"body", "x"}},
		"another key":   {{"key", "bob"}, {"body", "x"}},
		"no key":        {{"key", ""}, {"body", "x"}},
		"without scope": {{"body", "x"}},
	} {
		h := NewHash()
		for _, f := range fields {
			h.Field(f[0], f[1])
		}
		k := h.Key()
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[k] = name
	}
	h := NewHash()
	h.Bytes("a", []byte("b"))
	k := h.Sum().With("x", []byte("y"))
	if _, ok := seen[k]; ok {
		t.Error("With returns the key of other fields")
	}
	if _, ok := seen[h.Key()]; !ok {
		t.Error("Bytes and Field differ, or Sum changes the hash")
	}
}

func BenchmarkKey(b *testing.B) {
	body := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		h := NewHash()
		h.Field("key", "alice")
		h.Field("endpoint", "chat")
		h.Bytes("body", body)
		h.Key()
	}
}
