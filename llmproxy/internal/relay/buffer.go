package relay

import (
	"bytes"
	"math/bits"
	"sync"
)

var (
	// buffers pools buffers for answers of at most freeHolding. They grow with what they hold.
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	// larges pools buffers for up to 2, 4, 8 times that, up to maxHeld.
	larges [6]sync.Pool
)

// doublings returns how often freeHolding must be doubled to hold n bytes, less one: the index of a buffer for them in larges.
func doublings(n int) int { return bits.Len(uint(n-1)/freeHolding) - 1 }

// largeBuffer returns an empty buffer with room for n bytes, which are more than freeHolding, and for the read that finds the end.
func largeBuffer(n int) *bytes.Buffer {
	i := doublings(n)
	if i < len(larges) {
		if b, ok := larges[i].Get().(*bytes.Buffer); ok {
			return b
		}
		n = freeHolding << (i + 1)
	}
	return bytes.NewBuffer(make([]byte, 0, n+bytes.MinRead))
}

// releaseBuffer returns a buffer to its pool.
func releaseBuffer(b *bytes.Buffer) {
	b.Reset()
	size := b.Cap() - bytes.MinRead
	if size < 2*freeHolding {
		buffers.Put(b)
		return
	}
	if i := doublings(size+1) - 1; i < len(larges) {
		larges[i].Put(b)
	}
}

// enlarged returns a buffer with the same contents and room for n bytes, in place of one that is released.
func enlarged(b *bytes.Buffer, n int) *bytes.Buffer {
	if n+bytes.MinRead <= b.Cap() {
		return b
	}
	if n <= freeHolding {
		b.Grow(n - b.Len() + bytes.MinRead)
		return b
	}
	larger := largeBuffer(n)
	larger.Write(b.Bytes())
	releaseBuffer(b)
	return larger
}
