package reqbody

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
)

const (
	// firstRead is the memory in bytes that a body takes when it begins. Most bodies fit.
	firstRead = 16 << 10
	// growth is how much larger the memory of a growing body becomes at most, so that little is copied.
	growth = 4
	// trusted is how much of a body must arrive before it takes the memory for the length that was announced.
	trusted = 1 << 20
	// chunkSize is the size of the chunks in which a body of unknown length is collected.
	chunkSize = 1 << 20
	// memoryWait is how long a body waits for memory that other requests hold.
	memoryWait = 10 * time.Second
)

// A claim is the memory that a body reserves in an account.
type claim struct {
	account  *memory.Account
	ctx      context.Context // the request's; nil to take only what is there
	reserved int64
}

// another returns a claim to more memory for the same body.
func (c *claim) another() claim { return claim{account: c.account, ctx: c.ctx} }

// reserve reserves n more bytes. Small ones take what is there, large ones wait for their turn.
func (c *claim) reserve(n int64) error {
	if (n <= trusted || c.ctx == nil) && c.account.Reserve(n) || c.ctx != nil && c.await(n) {
		c.reserved += n
		return nil
	}
	return &fullError{always: !c.account.CouldHold(n + c.reserved)}
}

func (c *claim) await(n int64) bool {
	if !c.account.CouldHold(n + c.reserved) {
		return false
	}
	ctx, cancel := context.WithTimeout(c.ctx, memoryWait)
	defer cancel()
	return c.account.Await(ctx, n)
}

func (c *claim) release(n int64) {
	c.account.Release(n)
	c.reserved -= n
}

// A fullError means that the account has no memory left for a body.
type fullError struct {
	always bool // even if no other request held any
}

// Error implements error.
func (e *fullError) Error() string { return "the memory for requests is used up" }

// A buffer collects a body while it arrives. It grows with what has arrived, so that a client must send what it makes the gateway hold, and
// takes the length that was announced only when a good part of it is there. It reserves memory before it allocates it.
type buffer struct {
	claim
	limit int64 // the maximum size of a body of unknown length

	keep bool // the bytes remain available after release, so they are not pooled

	full   [][]byte // the beginning of a large body of unknown length, in chunks that are full
	bytes  []byte   // what has arrived, after full
	memory Memory   // holds bytes, unless keep
}

// read reads a body whose length is known.
func (b *buffer) read(r io.Reader, length int64) error {
	for int64(len(b.bytes)) < length {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.resize(b.nextSize(length)); err != nil {
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

// nextSize returns the size to grow to, of at most limit bytes.
func (b *buffer) nextSize(limit int64) int {
	switch n := int64(len(b.bytes)); {
	case n == 0:
		return int(min(firstRead, limit))
	case n >= trusted:
		return int(limit)
	default:
		return int(min(growth*n, trusted, limit))
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
	if len(b.bytes) < chunkSize {
		return b.resize(b.nextSize(b.limit + 1)) // only there a reader finds out that a body is too large
	}
	if err := b.reserve(chunkSize); err != nil {
		return err
	}
	b.full = append(b.full, b.bytes)
	b.memory.bytes = nil // it is the chunk's now
	b.bytes = b.allocate(nil, chunkSize)
	return nil
}

// join joins the chunks.
func (b *buffer) join() error {
	if len(b.full) == 0 {
		return nil
	}
	size, before := len(b.full)*chunkSize+len(b.bytes), b.reserved
	if err := b.reserve(b.sizeFor(size)); err != nil {
		return err
	}
	chunks := append(b.full, b.bytes)
	b.full, b.memory.bytes = nil, nil
	b.bytes = b.allocate(nil, size)
	for _, chunk := range chunks {
		b.bytes = append(b.bytes, chunk...)
	}
	b.recycle(chunks)
	b.claim.release(before)
	return nil
}

// recycle returns chunks to their pool.
func (b *buffer) recycle(chunks [][]byte) {
	for _, chunk := range chunks {
		if chunk = chunk[:chunkSize]; !b.keep {
			classOf(chunkSize).put(&chunk)
		}
	}
}

// resize moves the bytes to memory of another size.
func (b *buffer) resize(size int) error {
	before := b.reserved
	if err := b.reserve(b.sizeFor(size)); err != nil {
		return err
	}
	b.bytes = b.allocate(b.bytes, size)
	b.claim.release(before)
	return nil
}

// sizeFor returns how much memory n bytes take.
func (b *buffer) sizeFor(n int) int64 {
	if b.keep {
		return int64(n)
	}
	return pooledSize(n)
}

// allocate returns memory with room for exactly n bytes, which begins with kept.
func (b *buffer) allocate(kept []byte, n int) []byte {
	if b.keep {
		return append(make([]byte, 0, n), kept...)
	}
	return b.memory.Replace(kept, n)
}

// abandon leaves the memory to the garbage collector, because somebody may still read it.
func (b *buffer) abandon() { b.claim.release(b.reserved) }

// release gives the memory back. It may be called more than once.
func (b *buffer) release() {
	if b.reserved == 0 {
		return
	}
	b.recycle(b.full)
	b.memory.Release()
	b.claim.release(b.reserved)
}
