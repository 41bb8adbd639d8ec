package caching

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// entryOverhead is the memory in bytes that an entry takes besides its value: its key twice, the nodes of the hash table, of
// the eviction policy and of the expiry timer, and what the allocator rounds up. TestMemoryCountsWhatItTakes checks it.
const entryOverhead = 320

// A Memory stores entries in this process, within a number of bytes that includes all overhead. It evicts by W-TinyLFU: what
// is requested often stays longest. It survives reloads and is safe for concurrent use.
type Memory struct {
	cache   *otter.Cache[Key, memoryValue]
	counter *stats.Counter
}

type memoryValue struct {
	bytes []byte
	model string
	ttl   time.Duration
}

// NewMemory returns an empty store that takes at most maxSize bytes.
func NewMemory(maxSize int64) *Memory {
	m := &Memory{counter: stats.NewCounter()}
	m.cache = otter.Must(&otter.Options[Key, memoryValue]{
		MaximumWeight: uint64(maxSize),
		Weigher: func(_ Key, v memoryValue) uint32 {
			return uint32(cap(v.bytes) + len(v.model) + entryOverhead)
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[Key, memoryValue]) time.Duration { return e.Value.ttl }),
		StatsRecorder:    m.counter,
	})
	return m
}

// Resize changes the maximum size in bytes.
func (m *Memory) Resize(maxSize int64) { m.cache.SetMaximum(uint64(maxSize)) }

// Get implements Store.
func (m *Memory) Get(_ context.Context, _ string, keys []Key) [][]byte {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if v, ok := m.cache.GetIfPresent(k); ok {
			values[i] = v.bytes
		}
	}
	return values
}

// Put implements Store.
func (m *Memory) Put(model string, items []Item, ttl time.Duration) {
	for _, i := range items {
		m.cache.Set(i.Key, memoryValue{i.Value, model, ttl})
	}
}

// Purge deletes the entries of a model, or all of them if model is empty, and returns how many it deleted.
func (m *Memory) Purge(model string) (n int) {
	for key, v := range m.cache.All() {
		if model == "" || v.model == model {
			if _, deleted := m.cache.Invalidate(key); deleted {
				n++
			}
		}
	}
	return n
}

// Size returns the number of entries, the bytes that they take, and the number of evictions so far.
func (m *Memory) Size() (entries int, bytes int64, evicted uint64) {
	m.cache.CleanUp()
	return m.cache.EstimatedSize(), int64(m.cache.WeightedSize()), m.counter.Snapshot().Evictions
}

// Close ends the store's goroutine. Entries can still be looked up and stored.
func (m *Memory) Close() { m.cache.StopAllGoroutines() }
