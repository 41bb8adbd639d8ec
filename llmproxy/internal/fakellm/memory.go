package fakellm

import (
	"context"
	"sync"
)

// A memory is the models that a server has in memory. Nil means all of them.
type memory struct {
	loading func() <-chan struct{} // returns a channel that is closed when a load may end, or nil
	most    int
	mu      sync.Mutex
	models  map[string]*loadedModel
	changed chan struct{} // closed when a model is loaded or a request ends
	turns   int           // how many requests have come
	loads   []string      // the models that were loaded, in order
}

// A loadedModel is a model that is in memory, or being loaded.
type loadedModel struct {
	ready    bool
	requests int
	used     int // the turn of its last request
}

// begin loads a model, and unloads another one for it if it has to. It reports false if it cannot because all have requests. The caller
// holds the lock.
func (m *memory) begin(name string) bool {
	if len(m.models) >= m.most {
		oldest := ""
		for other, in := range m.models {
			if in.ready && in.requests == 0 && (oldest == "" || in.used < m.models[oldest].used) {
				oldest = other
			}
		}
		if oldest == "" {
			return false
		}
		delete(m.models, oldest)
	}
	in := &loadedModel{used: m.turns}
	m.models[name] = in
	m.loads = append(m.loads, name)
	go func() {
		if loading := m.loading(); loading != nil {
			<-loading
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		in.ready = true
		m.change()
	}()
	return true
}

// change wakes those who wait. The caller holds the lock.
func (m *memory) change() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// use waits until a model is in memory, and keeps it there until end is called.
func (m *memory) use(ctx context.Context, name string) (end func(), err error) {
	m.mu.Lock()
	m.turns++
	for {
		in := m.models[name]
		if in == nil && m.begin(name) {
			in = m.models[name]
		}
		if in != nil && in.ready {
			in.requests++
			in.used = m.turns
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				in.requests--
				m.change()
			}, nil
		}
		changed := m.changed
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		m.mu.Lock()
	}
}

// status returns what a model is doing.
func (m *memory) status(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch in := m.models[name]; {
	case in == nil:
		return "unloaded"
	case in.ready:
		return "loaded"
	}
	return "loading"
}
