package admission

import (
	"slices"
	"time"
)

// Models is what a server says of the models that it has in memory.
type Models struct {
	// Asked is when the server was asked.
	Asked time.Time
	// All means that the server has all of its models in memory, so that none displaces another. The other fields do not matter then.
	All bool
	// InMemory are the models in memory, and those that are being loaded.
	InMemory []string
	// Most is how many models fit into memory at once. Zero means that the server does not say so.
	Most int
}

// A server that has not enough memory for all of its models unloads one to load another. If it did that for each request, it would do
// little else. So the models in memory are kept for a turn while requests for them wait: until the turn is over, these are served before
// requests of the same priority, or of a lower one, whose model would have to be loaded. What a turn was worth to a caller counts for its
// share, so that turns change the order of the requests but not the shares.
const (
	// turnOfLoad is how long a turn is, relative to the time to load the model that waits or the ones that would be unloaded for it. The
	// server then spends a fifth of its time on loading at most.
	turnOfLoad = 4
	minTurn    = 2 * time.Second
	maxTurn    = time.Minute
	// unknownTurn is how long a turn is until a load has been measured.
	unknownTurn = 10 * time.Second
	// turnOfWait bounds a turn, so that a request does not spend all of its longest wait on it.
	turnOfWait = 2
	// displacedWithin is how long ago a model was in use that has made room for another one. One that was not may have been unloaded because
	// it was idle.
	displacedWithin = 30 * time.Second
	// shortestLoad is the shortest time that counts as a load. A model that is in memory is "loaded" at once.
	shortestLoad = 100 * time.Millisecond
	// maxLoads bounds the models whose loads are remembered, because clients choose names for patterns.
	maxLoads = 64
)

// models is what is known of the models that a server has in memory. The lock of the queue guards it.
type models struct {
	known  bool // the server has only some of its models in memory
	loaded []loadedModel
	asked  time.Time // when the server was asked that has said so
	// stated is how many models fit into memory at once, as the server says, and learned what has been seen of that. Zero means unknown.
	stated, learned int
	together        int // the most models that were seen in memory at once, since one has made room for another
	// turn is when the last load began or ended, and wanted since when a request waits for another one; zero if none does.
	turn, wanted time.Time
	loads        map[string]time.Duration // by model: the time to load it
}

// A loadedModel is a model that is in memory, or being loaded.
type loadedModel struct {
	name string
	used time.Time // when a request for it began or ended here
}

// learn learns from a list of models. Busy reports whether requests for a model hold slots.
func (m *models) learn(said Models, busy func(model string) bool) {
	list := make([]loadedModel, 0, len(said.InMemory))
	for _, name := range said.InMemory {
		list = append(list, loadedModel{name: name})
	}
	displaced := false
	for _, before := range m.loaded {
		switch i := indexOf(list, before.name); {
		case i >= 0:
			list[i].used = before.used
		case before.used.After(said.Asked) || busy(before.name): // it is being loaded by now
			list = append(list, before)
		case said.Asked.Sub(before.used) < displacedWithin:
			displaced = true
		}
	}
	m.known, m.asked, m.loaded, m.stated = true, said.Asked, list, said.Most
	switch n := max(len(list), 1); {
	case displaced:
		m.together, m.learned = n, n
	case n > m.together:
		m.together = n
		m.learned = 0 // more fit than was thought, and perhaps even more
	}
}

func indexOf(list []loadedModel, name string) int {
	return slices.IndexFunc(list, func(m loadedModel) bool { return m.name == name })
}

// forget forgets which models are in memory, but not how long they take to load.
func (m *models) forget() { *m = models{asked: m.asked, loads: m.loads} }

// limit returns how many models fit into memory at once; zero means that this is unknown.
func (m *models) limit() int {
	if m.stated > 0 {
		return m.stated
	}
	return m.learned
}

// canServe reports whether a request for a model makes the server unload none.
func (m *models) canServe(model string) bool {
	if indexOf(m.loaded, model) >= 0 {
		return true
	}
	if limit := m.limit(); limit > 0 {
		return len(m.loaded) < limit
	}
	return len(m.loaded) < m.together
}

// turnFor returns how long the models in memory are kept before another one is loaded.
func (m *models) turnFor(model string) time.Duration {
	longest := m.loads[model]
	for _, in := range m.loaded {
		longest = max(longest, m.loads[in.name])
	}
	if longest == 0 {
		return unknownTurn
	}
	return min(max(turnOfLoad*longest, minTurn), maxTurn)
}

// isOver reports whether the turn of the models in memory is over for a request for another one that is next in order.
func (m *models) isOver(model string, arrived time.Time, maxWait time.Duration) bool {
	if m.wanted.IsZero() {
		m.wanted = arrived
	}
	since := m.wanted
	if m.turn.After(since) {
		since = m.turn
	}
	return time.Since(since) >= min(m.turnFor(model), maxWait/turnOfWait)
}

// mayLoad reports whether the server can serve a request for a model without interrupting, or waiting for, requests for others. Ollama
// waits for them, while it goes on to serve new ones; llama.cpp waits, too, and older versions interrupt them.
func (m *models) mayLoad(model string, busy func(model string) bool) bool {
	limit := m.limit()
	if !m.known || limit == 0 || indexOf(m.loaded, model) >= 0 {
		return true
	}
	n := 0
	for _, in := range m.loaded {
		if busy(in.name) {
			n++
		}
	}
	return n < limit
}

// displacesEarly reports whether the server would have to unload a model whose turn is not over to load another one.
func (m *models) displacesEarly(model string) bool {
	return m.known && !m.canServe(model) && m.limit() > 0 && time.Since(m.turn) < m.turnFor(model)
}

// learnLoad learns how long the server has taken to load a model, whose turn begins.
func (m *models) learnLoad(model string, took time.Duration) {
	m.turn = time.Now()
	if before, ok := m.loads[model]; ok {
		took = (before + took) / 2
	} else if len(m.loads) >= maxLoads {
		return
	}
	if m.loads == nil {
		m.loads = map[string]time.Duration{}
	}
	m.loads[model] = took
}

// leaves records that a request for a model has left its slot.
func (m *models) leaves(model string) {
	if i := indexOf(m.loaded, model); i >= 0 {
		m.loaded[i].used = time.Now()
	}
}

// use records that a request for a model has got a slot. A model that was not in memory is loaded now, for which the server makes room. It
// reports whether that is so.
func (m *models) use(model string, busy func(model string) bool) (loads bool) {
	if !m.known {
		return false
	}
	now := time.Now()
	if i := indexOf(m.loaded, model); i >= 0 {
		m.loaded[i].used = now
		return false
	}
	room := m.limit()
	if room == 0 {
		room = m.together
	}
	for len(m.loaded) >= room {
		oldest := -1
		for i, in := range m.loaded {
			if (oldest < 0 || in.used.Before(m.loaded[oldest].used)) && !busy(in.name) {
				oldest = i
			}
		}
		if oldest < 0 {
			break
		}
		m.loaded = slices.Delete(m.loaded, oldest, oldest+1)
	}
	m.loaded = append(m.loaded, loadedModel{model, now})
	m.turn, m.wanted = now, time.Time{}
	return true
}
