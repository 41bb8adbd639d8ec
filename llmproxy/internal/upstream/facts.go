package upstream

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Said is what a configuration says of a model, or of all of an upstream; it goes before what is found.
type Said struct {
	Context int // tokens; zero for nothing said
	Can     router.Ability
	Cannot  router.Ability
}

func (s Said) over(l router.Limits) router.Limits {
	if s.Context > 0 {
		l.Context = s.Context
	}
	l.Lacks = l.Lacks&^s.Can | s.Cannot
	return l
}

// anyModel stands for every model of a server that has one whatever it is called.
const anyModel = ""

const (
	factsFresh   = 30 * time.Second // then the next request has the server asked again
	learnedFresh = 10 * time.Minute // a server may be started anew with a larger context
	maxModels    = 64               // of which facts are kept; of others nothing is known
)

// facts are what is known of the models: what the servers tell, and what their errors taught.
type facts struct {
	table   atomic.Pointer[table]
	asking  atomic.Bool
	mu      sync.Mutex
	config  *Config
	found   map[string]router.Limits
	learned map[string]lesson
	ratios  map[string]float64
}

// A table is the facts, ready to look up: never changed once made.
type table struct {
	limits map[string]router.Limits
	other  router.Limits // of models that are not in limits
	at     time.Time     // of the last time the server was asked
	until  time.Time     // when the first lesson in it is old; zero without lessons
}

// A lesson is a context length that an error told.
type lesson struct {
	context int
	at      time.Time
}

func (f *facts) start(c *Config) {
	f.config = c
	f.publish(time.Time{})
}

// publish makes a new table; the caller holds the lock, or nobody else has the facts yet.
func (f *facts) publish(at time.Time) {
	c := f.config
	maps.DeleteFunc(f.learned, func(_ string, l lesson) bool { return time.Since(l.at) >= learnedFresh })
	t := &table{limits: make(map[string]router.Limits, len(f.found)+len(c.ModelCan)), at: at, other: c.Can.over(f.found[anyModel])}
	for model := range c.ModelCan {
		t.limits[model] = f.found[anyModel]
	}
	maps.Copy(t.limits, f.found)
	for model, l := range f.learned {
		limits := t.limits[model]
		if limits.Context == 0 || l.context < limits.Context {
			limits.Context = l.context
			t.limits[model] = limits
		}
		if old := l.at.Add(learnedFresh); t.until.IsZero() || old.Before(t.until) {
			t.until = old
		}
	}
	for model, limits := range t.limits {
		t.limits[model] = c.ModelCan[model].over(c.Can.over(limits))
	}
	f.table.Store(t)
}

// Limits is what a model of the upstream can take, as far as is known now. It never waits: what is old is asked for in the
// background, without generating anything.
func (u *Upstream) Limits(model string) router.Limits {
	t := u.facts.table.Load()
	if !t.until.IsZero() && time.Now().After(t.until) {
		t = u.facts.forget()
	}
	limits, known := t.limits[model]
	if !known {
		limits = t.other
	}
	if kind := u.kind.Load(); kind != nil && kind.inquire == nil {
		return limits // nobody to ask
	}
	if !known && len(t.limits) < maxModels && u.facts.want(model) || time.Since(t.at) > factsFresh {
		u.Inquire()
	}
	return limits
}

// want has a model asked for from now on; false if it is already, or if there are too many.
func (f *facts) want(model string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.found[model]; ok || len(f.found) >= maxModels {
		return false
	}
	if f.found == nil {
		f.found = map[string]router.Limits{}
	}
	f.found[model] = f.found[anyModel]
	f.publish(f.table.Load().at)
	return true
}

// forget makes a table without what is old.
func (f *facts) forget() *table {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish(f.table.Load().at)
	return f.table.Load()
}

// Learn takes the context length that an error of the upstream told.
func (u *Upstream) Learn(model string, context int) {
	f := &u.facts
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.learned == nil {
		f.learned = map[string]lesson{}
	}
	if _, ok := f.learned[model]; !ok && len(f.learned) >= maxModels {
		return
	}
	f.learned[model] = lesson{context, time.Now()}
	f.publish(f.table.Load().at)
}
