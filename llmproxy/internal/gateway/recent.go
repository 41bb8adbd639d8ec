package gateway

import (
	"container/list"
	"sync"
	"time"
)

// A recent remembers values by their keys. When it is full, it forgets the one that has not been used for the longest time.
type recent[K comparable, V any] struct {
	most int           // values at once
	idle time.Duration // a value that is not used for longer is forgotten

	mu    sync.Mutex
	byKey map[K]*list.Element
	order list.List // of *entry; the most recently used first
}

type entry[K comparable, V any] struct {
	key   K
	value V
	used  time.Time
}

// get returns the value of a key. That alone does not count as a use.
func (r *recent[K, V]) get(key K) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byKey[key]
	if e == nil || time.Since(e.Value.(*entry[K, V]).used) > r.idle {
		return value, false
	}
	return e.Value.(*entry[K, V]).value, true
}

// put remembers a value, or that it was used again.
func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = map[K]*list.Element{}
	}
	if e := r.byKey[key]; e != nil {
		*e.Value.(*entry[K, V]) = entry[K, V]{key, value, time.Now()}
		r.order.MoveToFront(e)
		return
	}
	r.byKey[key] = r.order.PushFront(&entry[K, V]{key, value, time.Now()})
	if r.order.Len() > r.most {
		oldest := r.order.Back()
		delete(r.byKey, r.order.Remove(oldest).(*entry[K, V]).key)
	}
}
