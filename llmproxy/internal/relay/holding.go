package relay

import "github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"

// freeHolding is how many bytes of each answer are held without a reservation. Most answers are not longer.
const freeHolding = 16 << 10

// A holding is the memory that is reserved for what is held of an answer.
type holding struct {
	account  *memory.Account
	reserved int64
}

// fits reserves the memory for holding n bytes in all, and reports false if no more is left.
func (h *holding) fits(n int64) bool {
	if n <= max(freeHolding, h.reserved) {
		return true
	}
	size := int64(freeHolding)
	for size < n {
		size *= 2
	}
	if !h.account.Reserve(size - h.reserved) {
		return false
	}
	h.reserved = size
	return true
}

// release gives the memory back. It may be called more than once.
func (h *holding) release() {
	h.account.Release(h.reserved)
	h.reserved = 0
}
