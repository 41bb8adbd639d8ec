package caching

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// A Key stands for everything that an answer depends on. It is a SHA-256: whoever could make two requests with one key
// could show others an answer of his own, so that a fast hash without resistance will not do.
type Key [sha256.Size]byte

// A Hash makes a key out of named fields. Names and values carry their lengths, so that no field can be made to look like
// another, and a field that is added later cannot make an old key come out.
type Hash struct{ fields []byte }

// maxPooledFields is the room that a Hash may keep for the next one, in bytes.
const maxPooledFields = 64 << 10

var hashes = sync.Pool{New: func() any { return &Hash{fields: make([]byte, 0, 1024)} }}

// NewHash begins a key; Key ends it.
func NewHash() *Hash {
	h := hashes.Get().(*Hash)
	h.fields = h.fields[:0]
	return h
}

// Field adds a field.
func (h *Hash) Field(name, value string) {
	h.begin(name, len(value))
	h.fields = append(h.fields, value...)
}

// Bytes adds a field.
func (h *Hash) Bytes(name string, value []byte) {
	h.begin(name, len(value))
	h.fields = append(h.fields, value...)
}

func (h *Hash) begin(name string, length int) {
	h.fields = append(binary.AppendUvarint(h.fields, uint64(len(name))), name...)
	h.fields = binary.AppendUvarint(h.fields, uint64(length))
}

// Sum gives the key that there is so far, and leaves the hash as it is.
func (h *Hash) Sum() Key { return sha256.Sum256(h.fields) }

// With gives the key that one more field makes of a key.
func (k Key) With(name string, value []byte) Key {
	h := NewHash()
	h.Bytes("base", k[:])
	h.Bytes(name, value)
	return h.Key()
}

// Key gives the key. The hash must not be used afterwards.
func (h *Hash) Key() Key {
	k := h.Sum()
	if cap(h.fields) <= maxPooledFields {
		hashes.Put(h)
	}
	return k
}
