package caching

import (
	"context"
	"sync/atomic"
	"time"
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

// A Cache is what outlives a configuration: the entries in memory, the requests under way, and what happened. Rules are
// passed in with each call.
type Cache struct {
	Memory  *Memory
	Flights Flights
	Counts  Counts
}

// New makes an empty cache of at most max bytes in memory.
func New(max int64) *Cache { return &Cache{Memory: NewMemory(max)} }

// Lookup gives the entry of a key, if it is there, fresh and as young as the client wants it: in the form that is wanted, if it is
// kept in that one, too.
func Lookup(ctx context.Context, s Store, model string, key Key, want Form, c *Control) *Entry {
	return fit(s.Get(ctx, model, []Key{key})[0], want, c)
}

// LookupAll gives the entry of each key, nil where there is none that fits.
func LookupAll(ctx context.Context, s Store, model string, keys []Key, c *Control) []*Entry {
	entries := make([]*Entry, len(keys))
	for i, value := range s.Get(ctx, model, keys) {
		entries[i] = fit(value, Part, c)
	}
	return entries
}

func fit(value []byte, want Form, c *Control) *Entry {
	if value == nil {
		return nil
	}
	e, err := UnmarshalEntry(inForm(value, want))
	now := time.Now()
	if err != nil || !e.Fresh(now) || !c.Takes(e.Age(now)) {
		return nil
	}
	e.kept = value
	return e
}
