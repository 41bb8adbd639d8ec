package caching

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// A Key stands for everything that an answer depends on. It is a SHA-256: whoever could make two requests with one key
// could show others an answer of his own, so that a fast hash without resistance will not do.
type Key [sha256.Size]byte

// A Hash makes a key out of named fields. Names and values carry their lengths, so that no field can be made to look like
// another, and a field that is added later cannot make an old key come out.
type Hash struct {
	sum  hash.Hash
	room []byte
}

var hashes = sync.Pool{New: func() any { return &Hash{sum: sha256.New(), room: make([]byte, 0, 64)} }}

// NewHash begins a key; Key ends it.
func NewHash() *Hash {
	h := hashes.Get().(*Hash)
	h.sum.Reset()
	return h
}

// Field adds a field.
func (h *Hash) Field(name, value string) {
	h.begin(name, len(value))
	h.room = append(h.room, value...)
	h.sum.Write(h.room)
}

// Bytes adds a field.
func (h *Hash) Bytes(name string, value []byte) {
	h.begin(name, len(value))
	h.sum.Write(h.room)
	h.sum.Write(value)
}

func (h *Hash) begin(name string, length int) {
	h.room = binary.AppendUvarint(h.room[:0], uint64(len(name)))
	h.room = append(h.room, name...)
	h.room = binary.AppendUvarint(h.room, uint64(length))
}

// With gives the key that one more field makes, and leaves the hash as it is.
func (h *Hash) With(name string, value []byte) Key {
	base := h.current()
	more := NewHash()
	more.Bytes("base", base[:])
	more.Bytes(name, value)
	return more.Key()
}

func (h *Hash) current() (k Key) {
	h.room = h.sum.Sum(h.room[:0])
	copy(k[:], h.room)
	return k
}

// Key gives the key. The hash must not be used afterwards.
func (h *Hash) Key() Key {
	k := h.current()
	hashes.Put(h)
	return k
}
