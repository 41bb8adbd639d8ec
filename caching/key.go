package caching

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// A Key identifies everything that an answer depends on. It is a SHA-256, not a fast hash: a client that can make two requests
// with the same key could make other clients see an answer of its choice.
type Key [sha256.Size]byte

// With returns a key that depends on k and on one more field.
func (k Key) With(name string, value []byte) Key {
	h := NewHash()
	h.Bytes("base", k[:])
	h.Bytes(name, value)
	return h.Key()
}

// A Hash builds a key from named fields. Names and values are hashed with their lengths, so that no value can imitate another
// field.
type Hash struct{ fields []byte }

// maxPooledFields is the largest buffer in bytes that a Hash hands on to the next one.
const maxPooledFields = 64 << 10

var hashes = sync.Pool{New: func() any { return &Hash{fields: make([]byte, 0, 1024)} }}

// NewHash returns a hash without fields. Key releases it.
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

// Sum returns the key of the fields so far. More fields can be added.
func (h *Hash) Sum() Key { return sha256.Sum256(h.fields) }

// Key returns the key of all fields and releases the hash, which must not be used afterwards.
func (h *Hash) Key() Key {
	k := h.Sum()
	if cap(h.fields) <= maxPooledFields {
		hashes.Put(h)
	}
	return k
}
