package caching

import (
	"hash/maphash"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// decodedShare is the divisor of the cache's size that gives the size of its decoded entries.
	decodedShare = 8
	// decodedOverhead is the memory in bytes that a decoded entry takes besides its bytes: entryOverhead and the Entry itself.
	decodedOverhead = entryOverhead + 256
)

// decodedEntries keeps entries as they were last sent: decompressed, and in the form that was asked for, so that a hit does
// neither again. An entry is used only while a store still holds the very value that it was decoded from: the store alone
// decides what is cached. It is safe for concurrent use.
//
// It is worth a second store. Decoding at each hit triples what a hit on a stream of 200 events takes (62 µs instead of 19,
// in the median of BenchmarkHit in package gateway), and one that is wanted whole takes 20 times as long (250 µs instead of
// 12), because it is assembled from all events. Storing both forms uncompressed takes 20 times the memory (48 KB instead of
// 2.3 for such a stream).
type decodedEntries struct {
	cache *otter.Cache[decodedKey, decodedEntry]
	seed  maphash.Seed
}

type decodedKey struct {
	key  Key
	form Form
}

type decodedEntry struct {
	*Entry
	model string
}

func newDecodedEntries(maxSize int64) *decodedEntries {
	return &decodedEntries{seed: maphash.MakeSeed(), cache: otter.Must(&otter.Options[decodedKey, decodedEntry]{
		MaximumWeight: uint64(maxSize),
		Weigher: func(_ decodedKey, e decodedEntry) uint32 {
			return uint32(cap(e.Body) + len(e.ContentType) + len(e.Target) + len(e.model) + 16*cap(e.Extra) + decodedOverhead)
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[decodedKey, decodedEntry]) time.Duration {
			return e.Value.TTL - e.Value.Age(time.Now())
		}),
	})}
}

func (d *decodedEntries) resize(maxSize int64) { d.cache.SetMaximum(uint64(maxSize)) }

// hash identifies a stored value.
func (d *decodedEntries) hash(value []byte) uint64 { return maphash.Bytes(d.seed, value) }

// get returns the entry that was decoded from the stored value with that hash, or nil.
func (d *decodedEntries) get(key Key, form Form, source uint64) *Entry {
	if e, ok := d.cache.GetIfPresent(decodedKey{key, form}); ok && e.source == source {
		return e.Entry
	}
	return nil
}

// put keeps an entry until it expires.
func (d *decodedEntries) put(model string, key Key, e *Entry) {
	if e.Fresh(time.Now()) {
		d.cache.Set(decodedKey{key, e.Form}, decodedEntry{e, model})
	}
}

// purge deletes the entries of a model, or all of them if model is empty.
func (d *decodedEntries) purge(model string) {
	for key, e := range d.cache.All() {
		if model == "" || e.model == model {
			d.cache.Invalidate(key)
		}
	}
}

// size returns the bytes that the entries take.
func (d *decodedEntries) size() int64 {
	d.cache.CleanUp()
	return int64(d.cache.WeightedSize())
}

func (d *decodedEntries) close() { d.cache.StopAllGoroutines() }
