package coalesce

import (
	"math/bits"
	"sync"
)

const (
	// minPooled and maxPooled are the sizes of the smallest and the largest pooled memory, in bytes. New memory of these sizes is expensive:
	// it must be cleared, and garbage must be collected sooner.
	minPooled = 16 << 10
	maxPooled = 1 << 20
)

// pools have the memory of answers that were recorded, by size: each is twice the one before.
var pools [7]sync.Pool // of *[]byte

// sizeFor returns how much memory newMemory takes for n bytes.
func sizeFor(n int) int {
	if n <= minPooled/2 || n > maxPooled {
		return n
	}
	return minPooled << poolFor(n)
}

// poolFor returns the index of the pool with the smallest memory for n bytes.
func poolFor(n int) int { return bits.Len(uint(n-1) / minPooled) }

// newMemory returns empty memory with that capacity, which is one that sizeFor has returned, and what recycle takes; nil if it is not
// pooled.
func newMemory(capacity int) ([]byte, *[]byte) {
	if capacity < minPooled || capacity > maxPooled {
		return make([]byte, 0, capacity), nil
	}
	if b, ok := pools[poolFor(capacity)].Get().(*[]byte); ok {
		return *b, b
	}
	b := make([]byte, 0, capacity)
	return b, &b
}

// recycle gives memory back to its pool. Nothing may refer to it any more.
func recycle(b *[]byte) { pools[poolFor(cap(*b))].Put(b) }
