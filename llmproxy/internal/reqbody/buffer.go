package reqbody

import (
	"errors"
	"io"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
)

// firstRead is the memory in bytes that a body takes when it begins. Most bodies fit.
const firstRead = 16 << 10

// A buffer collects a body while it arrives. It grows with what has arrived, never to the length that was announced, so that a client
// must send what it makes the gateway hold. It reserves memory in an account before it allocates it.
type buffer struct {
	account *memory.Account
	limit   int64 // the maximum size of a body of unknown length
	keep    bool  // the bytes remain available after release, so they are not pooled

	full     [][]byte // the beginning of a large body of unknown length
	bytes    []byte   // what has arrived, after full
	memory   Memory   // holds what is pooled
	reserved int64
}

// A fullError means that the account has no memory left for a body.
type fullError struct {
	always bool // even if no other request held any
}

// Error implements error.
func (e *fullError) Error() string { return "the memory for requests is used up" }

// read reads a body whose length is known.
func (b *buffer) read(r io.Reader, length int64) error {
	for int64(len(b.bytes)) < length {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.resize(int(min(b.nextSize(), length))); err != nil {
				return err
			}
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) == length, err == nil:
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

// nextSize returns the size to grow to. It is at most 8 times what has arrived, so that a large body is seldom copied.
func (b *buffer) nextSize() int64 {
	switch n := int64(len(b.bytes)); {
	case n == 0:
		return firstRead
	case n < maxPooled:
		return 4 * n
	default:
		return 8 * n
	}
}

// readToEnd reads a body whose length is not known. A large one is collected in chunks and joined, so that it takes twice its size at most.
func (b *buffer) readToEnd(r io.Reader) error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.addRoom(); err != nil {
				return err
			}
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case errors.Is(err, io.EOF):
			return b.join()
		case err != nil:
			return err
		}
	}
}

// addRoom makes room for more of a body of unknown length.
func (b *buffer) addRoom() error {
	if len(b.full) == 0 && len(b.bytes) < maxPooled {
		return b.resize(int(min(b.nextSize(), b.limit+1))) // only there a reader finds out that a body is too large
	}
	if err := b.reserve(maxPooled); err != nil {
		return err
	}
	b.full = append(b.full, b.bytes)
	b.bytes = make([]byte, 0, maxPooled)
	return nil
}

// join joins the chunks.
func (b *buffer) join() error {
	if len(b.full) == 0 {
		return nil
	}
	b.full = append(b.full, b.bytes)
	size, chunks := 0, b.reserved
	for _, chunk := range b.full {
		size += len(chunk)
	}
	if err := b.reserve(int64(size)); err != nil {
		return err
	}
	b.bytes = slices.Concat(b.full...)
	b.full = nil
	b.memory.Release()
	b.memory.bytes = nil
	b.unreserve(chunks)
	return nil
}

// resize moves the bytes to memory of another size.
func (b *buffer) resize(size int) error {
	need, before := int64(size), b.reserved
	if !b.keep {
		need = pooledSize(size)
	}
	if err := b.reserve(need); err != nil {
		return err
	}
	if b.keep {
		b.bytes = append(make([]byte, 0, size), b.bytes...)
	} else {
		b.bytes = b.memory.Replace(b.bytes, size)
	}
	b.unreserve(before)
	return nil
}

func (b *buffer) reserve(n int64) error {
	if !b.account.Reserve(n) {
		return &fullError{always: !b.account.CouldHold(n + b.reserved)}
	}
	b.reserved += n
	return nil
}

func (b *buffer) unreserve(n int64) {
	b.account.Release(n)
	b.reserved -= n
}

// release gives the memory back. It may be called more than once.
func (b *buffer) release() {
	if b.reserved == 0 {
		return
	}
	b.memory.Release()
	b.unreserve(b.reserved)
}
