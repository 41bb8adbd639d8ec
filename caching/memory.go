package caching

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
)

// overhead is what an entry costs in memory beside its value: its key twice, the nodes of the table, the policy and the
// timer, the roundings of the allocator. TestMemoryCountsTruly holds it.
const overhead = 320

// A Memory keeps entries in this process, within a number of bytes that counts what they really cost. What is asked for
// often stays longest (W-TinyLFU). It survives reloads and is safe for concurrent use.
type Memory struct {
	cache   *otter.Cache[Key, kept]
	counter *stats.Counter
}

type kept struct {
	value []byte
	model string
	ttl   time.Duration
}

// NewMemory makes an empty one of at most max bytes.
func NewMemory(max int64) *Memory {
	m := &Memory{counter: stats.NewCounter()}
	m.cache = otter.Must(&otter.Options[Key, kept]{
		MaximumWeight: uint64(max),
		Weigher: func(_ Key, k kept) uint32 {
			return uint32(cap(k.value) + len(k.model) + overhead)
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[Key, kept]) time.Duration { return e.Value.ttl }),
		StatsRecorder:    m.counter,
	})
	return m
}

// Resize changes the bound; the least wanted entries go.
func (m *Memory) Resize(max int64) { m.cache.SetMaximum(uint64(max)) }

// Get implements Store.
func (m *Memory) Get(_ context.Context, _ string, keys []Key) [][]byte {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		if v, ok := m.cache.GetIfPresent(k); ok {
			values[i] = v.value
		}
	}
	return values
}

// Put implements Store.
func (m *Memory) Put(model string, items []Item, ttl time.Duration) {
	for _, i := range items {
		m.cache.Set(i.Key, kept{i.Value, model, ttl})
	}
}

// Purge implements Store.
func (m *Memory) Purge(_ context.Context, model string) (n int, err error) {
	for key, k := range m.cache.All() {
		if model == "" || k.model == model {
			if _, gone := m.cache.Invalidate(key); gone {
				n++
			}
		}
	}
	return n, nil
}

// Usage is how many entries there are, and how many bytes they take.
func (m *Memory) Usage() (entries int, bytes int64, evicted uint64) {
	m.cache.CleanUp()
	return m.cache.EstimatedSize(), int64(m.cache.WeightedSize()), m.counter.Snapshot().Evictions
}

// Close ends its goroutine. Entries can still be read and put.
func (m *Memory) Close() { m.cache.StopAllGoroutines() }
