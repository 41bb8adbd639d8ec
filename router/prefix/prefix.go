// Package prefix remembers which beginnings of prompts a server has read, so that a conversation goes on where it is probably still in the
// server's prompt cache.
//
// It compares hashes and knows nothing of prompts, replicas and their load: package router decides what a match is worth. It never asks
// a server, so what it remembers is a guess. It stands on the lowest floor.
package prefix

import (
	"hash/maphash"
	"sort"
	"sync"
)

const (
	// blockSize is the number of bytes of a block: about 128 tokens.
	blockSize = 512
	// maxBlocks is how many blocks of a prompt are hashed: 128 KiB, about 32,000 tokens. Agents repeat more than half of that with every
	// conversation.
	maxBlocks = 256
	// maxKeys is how many keys one of the two generations of an index has: 128 of the longest heads, or 512 KiB of memory.
	maxKeys = 1 << 15
)

// seed is the seed of all hashes, which are compared with each other only within this process.
var seed = maphash.MakeSeed()

// A Head identifies the beginning of a prompt, and the session that it belongs to.
type Head struct {
	blocks  []uint64 // the hash of all that precedes the end of each block
	session uint64   // zero without a session
}

// NewHead returns the head of a prompt that consists of the parts, in the order in which a model reads them. The session is empty if it is
// not known.
func NewHead(session string, parts ...[]byte) *Head {
	h := new(Head)
	if session != "" {
		h.session = max(maphash.String(seed, session), 1)
	}
	var hash maphash.Hash
	hash.SetSeed(seed)
	left := blockSize
	for _, part := range parts {
		for len(part) >= left {
			_, _ = hash.Write(part[:left]) // it never fails
			part, left = part[left:], blockSize
			if h.blocks = append(h.blocks, hash.Sum64()); len(h.blocks) == maxBlocks {
				return h
			}
		}
		_, _ = hash.Write(part)
		left -= len(part)
	}
	return h
}

// An Index remembers the heads that one server has read. When it is full, it forgets those that were not used for the longest time. It is
// safe for concurrent use, and the zero value is ready for use.
type Index struct {
	mu         sync.Mutex
	young, old map[uint64]struct{} // when young is full, it becomes old; what is used again is young again
}

// Match returns how many blocks of a head the server has read for a model, and whether it has had requests of the head's session.
func (x *Index) Match(model string, h *Head) (blocks int, session bool) {
	salt := maphash.String(seed, model)
	x.mu.Lock()
	defer x.mu.Unlock()
	// A head is added at once, so that an index that has a block has all blocks before it.
	blocks = sort.Search(len(h.blocks), func(i int) bool { return !x.has(h.blocks[i] ^ salt) })
	return blocks, h.session != 0 && x.has(h.session^salt)
}

func (x *Index) has(key uint64) bool {
	_, young := x.young[key]
	if young {
		return true
	}
	_, old := x.old[key]
	return old
}

// Add remembers that the server reads a head for a model.
func (x *Index) Add(model string, h *Head) {
	salt := maphash.String(seed, model)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.young == nil || len(x.young)+len(h.blocks)+1 > maxKeys {
		x.young, x.old = map[uint64]struct{}{}, x.young
	}
	for _, block := range h.blocks {
		x.young[block^salt] = struct{}{}
	}
	if h.session != 0 {
		x.young[h.session^salt] = struct{}{}
	}
}

// Clear forgets everything, because the server has lost its cache.
func (x *Index) Clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.young, x.old = nil, nil
}
