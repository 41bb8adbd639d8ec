package caching

import (
	"hash/maphash"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// readyPart is what Ready may take of a cache's memory: one part in so many.
	readyPart = 8
	// readyOverhead is what an answer costs there beside its bytes: overhead, and the Entry itself.
	readyOverhead = overhead + 256
)

// A Ready holds answers as they are sent: unpacked, and in the form that was wanted, so that neither is done at every hit. It
// never says that an answer is kept: a store says so first, and what was made of anything but the value that it gave does
// not count. It is safe for concurrent use.
type Ready struct {
	cache *otter.Cache[readyKey, ready]
	seed  maphash.Seed
}

type readyKey struct {
	key  Key
	form Form
}

type ready struct {
	entry *Entry
	model string
}

// readyFor makes one for a cache of at most max bytes.
func readyFor(max int64) *Ready {
	return &Ready{seed: maphash.MakeSeed(), cache: otter.Must(&otter.Options[readyKey, ready]{
		MaximumWeight: uint64(max / readyPart),
		Weigher: func(_ readyKey, r ready) uint32 {
			e := r.entry
			return uint32(cap(e.Body) + len(e.ContentType) + len(e.Target) + len(r.model) + 16*cap(e.Extra) + readyOverhead)
		},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[readyKey, ready]) time.Duration {
			return e.Value.entry.TTL - e.Value.entry.Age(time.Now())
		}),
	})}
}

// get gives the answer that was made of a store's value.
func (r *Ready) get(key Key, form Form, origin uint64) *Entry {
	if found, ok := r.cache.GetIfPresent(readyKey{key, form}); ok && found.entry.origin == origin {
		return found.entry
	}
	return nil
}

// put keeps an answer as long as it is fresh. It must not be changed any more.
func (r *Ready) put(model string, key Key, e *Entry) {
	if e.Fresh(time.Now()) {
		r.cache.Set(readyKey{key, e.Form}, ready{e, model})
	}
}

// purge forgets the answers of a model, or all if it is empty.
func (r *Ready) purge(model string) {
	for key, found := range r.cache.All() {
		if model == "" || found.model == model {
			r.cache.Invalidate(key)
		}
	}
}

// origin stands for a store's value.
func (r *Ready) origin(value []byte) uint64 { return maphash.Bytes(r.seed, value) }

func (r *Ready) bytes() int64 {
	r.cache.CleanUp()
	return int64(r.cache.WeightedSize())
}
