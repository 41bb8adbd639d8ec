package caching

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
)

// A Store keeps values under keys, each of which belongs to a model. It never makes anybody wait long, and never fails: what
// it does not give is a miss.
type Store interface {
	// Get gives the value of each key, nil where there is none. Values must not be changed.
	Get(ctx context.Context, model string, keys []Key) [][]byte
	// Put keeps values for a time. It may do so later, or not at all.
	Put(model string, items []Item, ttl time.Duration)
	// Purge forgets the entries of a model, or all if it is empty, and tells how many these were.
	Purge(ctx context.Context, model string) (int, error)
}

// An Item is a value for a store.
type Item struct {
	Key   Key
	Value []byte
}

// Counts is what happened since the cache was made.
type Counts struct {
	Hits, Misses, Coalesced, Bypassed, Stored atomic.Int64
	// Saved are the tokens that were not generated or read again.
	Saved atomic.Int64
}

// A Head is what is known of an answer that is being generated, when it begins.
type Head struct {
	Form        Form
	ContentType string
	Target      string
	Route       string
}

// A Span is a part of an answer.
type Span = coalesce.Span

// A Cache is what outlives a configuration: the entries in memory, the requests under way, and what happened. Rules are
// passed in with each call.
type Cache struct {
	Memory  *Memory
	Leaders coalesce.Group[Key, Head]
	Counts  Counts
	purges  atomic.Int64
	ready   *Ready
	max     atomic.Int64
}

// New makes an empty cache of at most max bytes in memory.
func New(max int64) *Cache {
	c := &Cache{Memory: NewMemory(max - max/readyPart), ready: readyFor(max)}
	c.max.Store(max)
	return c
}

// Resize changes the bound, as a new configuration may; the least wanted entries go.
func (c *Cache) Resize(max int64) {
	if c.max.Swap(max) != max {
		c.Memory.Resize(max - max/readyPart)
		c.ready.cache.SetMaximum(uint64(max / readyPart))
	}
}

// Lookup gives the first entry, of those that the store has under these keys, that is fresh and as young as the client wants it: in
// the form that is wanted, if it was brought into that one before. It must not be changed.
func (c *Cache) Lookup(ctx context.Context, s Store, model string, keys []Key, want Form, control *Control) (*Entry, Key) {
	for i, value := range s.Get(ctx, model, keys) {
		if e := c.entry(model, Item{keys[i], value}, want, control); e != nil {
			return e, keys[i]
		}
	}
	return nil, Key{}
}

// LookupAll gives the entry of each key, nil where there is none that fits.
func (c *Cache) LookupAll(ctx context.Context, s Store, model string, keys []Key, control *Control) []*Entry {
	entries := make([]*Entry, len(keys))
	for i, value := range s.Get(ctx, model, keys) {
		entries[i] = c.entry(model, Item{keys[i], value}, Part, control)
	}
	return entries
}

// Also keeps an entry ready that Lookup gave and that was brought into another form since.
func (c *Cache) Also(model string, key Key, e *Entry) { c.ready.put(model, key, e) }

// entry reads what a store gave, unless that was done before.
func (c *Cache) entry(model string, i Item, want Form, control *Control) *Entry {
	if i.Value == nil {
		return nil
	}
	e := c.read(model, i, want)
	if e == nil {
		return nil
	}
	if now := time.Now(); !e.Fresh(now) || !control.Takes(e.Age(now)) {
		return nil
	}
	return e
}

// read gives the entry that lies in a value. It keeps ready what took some work.
func (c *Cache) read(model string, i Item, want Form) *Entry {
	as := isAs(i.Value, want)
	var origin uint64
	if !as {
		origin = c.ready.origin(i.Value)
		if e := c.ready.get(i.Key, want, origin); e != nil {
			return e
		}
	}
	e, err := UnmarshalEntry(i.Value)
	if err != nil {
		return nil
	}
	e.origin = origin
	if !as && e.Form == want {
		c.ready.put(model, i.Key, e)
	}
	return e
}

// Purge forgets the entries in memory of a model, or all if it is empty, and tells how many these were; also what was made ready of
// another store's.
func (c *Cache) Purge(ctx context.Context, model string) (int, error) {
	c.purges.Add(1)
	n, err := c.Memory.Purge(ctx, model)
	c.ready.purge(model)
	return n, err
}

// Purges is how often something was purged: an answer that was begun before the last one is not kept.
func (c *Cache) Purges() int64 { return c.purges.Load() }

// Usage is how many entries there are in memory, and how many bytes they take, with what is kept ready.
func (c *Cache) Usage() (entries int, bytes int64, evicted uint64) {
	entries, bytes, evicted = c.Memory.Usage()
	return entries, bytes + c.ready.bytes(), evicted
}

// Close ends its goroutines. Entries can still be read and put.
func (c *Cache) Close() {
	c.Memory.Close()
	c.ready.cache.StopAllGoroutines()
}
