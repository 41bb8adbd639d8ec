// Package caching stores answers and finds them again. It decides which requests count as the same (a Key over everything
// that an answer depends on), how long an answer is stored, and what a client's Cache-Control means. Answers are stored in
// memory or in Redis. Package coalesce, below, lets identical concurrent requests share one upstream call.
//
// It never looks into requests or answers: it takes bytes and plain values, and knows neither JSON nor HTTP handlers. It
// stands on the floor of router and ratelimit, and imports neither.
package caching

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
)

// A Store stores values under keys. Each value belongs to a model, so that the answers of one model can be purged. A Store
// never fails a request and never holds one up for long: a value that it cannot return in time is a miss.
type Store interface {
	// Get returns the value of each key, nil for a miss. The values must not be modified.
	Get(ctx context.Context, model string, keys []Key) [][]byte
	// Put stores values for a duration. It may do so in the background, or drop them.
	Put(model string, items []Item, ttl time.Duration)
}

// An Item is a value to be stored.
type Item struct {
	Key   Key
	Value []byte
}

// Counts counts what happened since the cache was created.
type Counts struct {
	Hits, Misses, Coalesced, Bypassed, Stored atomic.Int64
	// SavedTokens counts the tokens that no upstream had to read or generate.
	SavedTokens atomic.Int64
}

// A Head is what is known of an answer when it begins.
type Head struct {
	Form        Form
	ContentType string
	Target      string
	Route       string
}

// A Span is a part of an answer.
type Span = coalesce.Span

// A Cache is the part of the response cache that survives a reload: the entries in memory, the coalesced requests, and the
// counts. Rules are passed in with each call.
type Cache struct {
	Memory  *Memory
	Leaders coalesce.Group[Key, Head]
	Counts  Counts
	decoded *decodedEntries
	purges  atomic.Int64
	maxSize atomic.Int64
}

// New returns an empty cache that takes at most maxSize bytes of memory.
func New(maxSize int64) *Cache {
	c := &Cache{Memory: NewMemory(maxSize - maxSize/decodedShare), decoded: newDecodedEntries(maxSize / decodedShare)}
	c.maxSize.Store(maxSize)
	return c
}

// Resize changes the maximum size, as a new configuration may. If it shrinks, the least used entries are evicted.
func (c *Cache) Resize(maxSize int64) {
	if c.maxSize.Swap(maxSize) != maxSize {
		c.Memory.Resize(maxSize - maxSize/decodedShare)
		c.decoded.resize(maxSize / decodedShare)
	}
}

// Lookup returns the first entry that the store has under one of the keys and that is fresh and not too old for the client,
// together with its key, or nil. The entry is in the wanted form if it was converted before, and otherwise in
// the form in which it is stored. It must not be modified.
func (c *Cache) Lookup(ctx context.Context, s Store, model string, keys []Key, want Form, control *Control) (*Entry, Key) {
	for i, value := range s.Get(ctx, model, keys) {
		if e := c.usableEntry(model, keys[i], value, want, control); e != nil {
			return e, keys[i]
		}
	}
	return nil, Key{}
}

// LookupAll returns the entry of each key, nil for a miss. The entries must not be modified.
func (c *Cache) LookupAll(ctx context.Context, s Store, model string, keys []Key, control *Control) []*Entry {
	entries := make([]*Entry, len(keys))
	for i, value := range s.Get(ctx, model, keys) {
		entries[i] = c.usableEntry(model, keys[i], value, Part, control)
	}
	return entries
}

// KeepConverted keeps an entry that Lookup returned and the caller converted into another form, so that Lookup returns it
// next time. The entry must not be modified afterwards.
func (c *Cache) KeepConverted(model string, key Key, e *Entry) { c.decoded.put(model, key, e) }

// usableEntry returns the entry in a stored value if it is fresh and not too old for the client; otherwise nil.
func (c *Cache) usableEntry(model string, key Key, value []byte, want Form, control *Control) *Entry {
	if value == nil {
		return nil
	}
	e := c.decode(model, key, value, want)
	if e == nil {
		return nil
	}
	if now := time.Now(); !e.Fresh(now) || !control.AcceptsAge(e.Age(now)) {
		return nil
	}
	return e
}

// decode returns the entry in a stored value, nil if the value is invalid. An entry that has to be decompressed is kept
// decoded; one that is stored in the wanted form and uncompressed is read in place.
func (c *Cache) decode(model string, key Key, value []byte, want Form) *Entry {
	inPlace := isUncompressed(value, want)
	var source uint64
	if !inPlace {
		source = c.decoded.hash(value)
		if e := c.decoded.get(key, want, source); e != nil {
			return e
		}
	}
	e, err := UnmarshalEntry(value)
	if err != nil {
		return nil
	}
	e.source = source
	if !inPlace && e.Form == want {
		c.decoded.put(model, key, e)
	}
	return e
}

// Purge deletes the entries in memory of a model, or all of them if model is empty, and returns how many it deleted. It also
// forgets what was decoded of entries in other stores. It never fails, but has the same signature as Redis.Purge.
func (c *Cache) Purge(_ context.Context, model string) (int, error) {
	c.purges.Add(1)
	n := c.Memory.Purge(model)
	c.decoded.purge(model)
	return n, nil
}

// PurgeCount returns how often the cache was purged. If it has changed since a request began, the answer must not be stored.
func (c *Cache) PurgeCount() int64 { return c.purges.Load() }

// Size returns the number of entries in memory, the bytes that they take together with what is kept decoded, and the number
// of evictions since the cache was created.
func (c *Cache) Size() (entries int, bytes int64, evicted uint64) {
	entries, bytes, evicted = c.Memory.Size()
	return entries, bytes + c.decoded.size(), evicted
}

// Close ends the cache's goroutines. Entries can still be looked up and stored.
func (c *Cache) Close() {
	c.Memory.Close()
	c.decoded.close()
}
