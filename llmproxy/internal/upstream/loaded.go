package upstream

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// A LoadedModel is a model that a server has loaded, with the entry of its own list, which is valid JSON.
type LoadedModel struct {
	Name  string
	Entry json.RawMessage
}

// Is reports whether this is the model of a name, with or without ":latest".
func (m LoadedModel) Is(name string) bool {
	return strings.EqualFold(strings.TrimSuffix(m.Name, ollamaLatest), strings.TrimSuffix(name, ollamaLatest))
}

const (
	loadedFresh = time.Second      // an older list is refreshed
	loadedWait  = probeTimeout     // how long a new list is waited for
	loadedAsk   = 30 * time.Second // how long a server may take that is loading a model
)

// loadedModels is the latest list of the models that the replicas have loaded.
type loadedModels struct {
	mu      sync.Mutex
	models  []LoadedModel
	at      time.Time     // of the list; zero before the first one
	asked   time.Time     // when the running request for a list began
	running chan struct{} // closed when that request ends; nil while no request is running
}

// ListsLoaded reports whether the upstream says which models it has loaded.
func (u *Upstream) ListsLoaded() bool { return u.ActualKind().loaded != nil }

// Loaded returns the models that the upstream had loaded when it last said so. It waits for a new list only for a moment, and not at all
// while a server does not answer: it may hold back its answer for as long as it loads another model.
func (u *Upstream) Loaded(ctx context.Context) []LoadedModel {
	list := u.ActualKind().loaded
	if list == nil {
		return nil
	}
	l := &u.loadedModels
	l.mu.Lock()
	if l.running == nil && time.Since(l.at) > loadedFresh {
		l.running, l.asked = make(chan struct{}), time.Now()
		go u.refreshLoaded(list)
	}
	running, wait := l.running, loadedWait-time.Since(l.asked)
	l.mu.Unlock()
	if running != nil && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-running:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.models
}

// refreshLoaded asks every replica. If none answers, the list stays.
func (u *Upstream) refreshLoaded(list func(*probe) ([]LoadedModel, bool)) {
	ctx, cancel := context.WithTimeout(context.Background(), loadedAsk)
	defer cancel()
	var found []LoadedModel
	var mu sync.Mutex
	var all sync.WaitGroup
	answered := false
	for _, base := range u.Bases {
		all.Go(func() {
			here, ok := list(&probe{ctx: ctx, u: u, base: base})
			mu.Lock()
			defer mu.Unlock()
			answered = answered || ok
			for _, m := range here {
				if !slices.ContainsFunc(found, func(other LoadedModel) bool { return other.Is(m.Name) }) {
					found = append(found, m)
				}
			}
		})
	}
	all.Wait()
	l := &u.loadedModels
	l.mu.Lock()
	defer l.mu.Unlock()
	if answered {
		l.models = found
	}
	l.at = time.Now()
	close(l.running)
	l.running = nil
}

// outdate makes the next call of Loaded ask for a new list.
func (l *loadedModels) outdate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Time{}
}

// LoadAnywhere starts loading a model at a replica that can answer, if there is one, and returns a channel that is closed when the load
// ends. Only for an upstream that loads models on demand.
func (u *Upstream) LoadAnywhere(model string) <-chan struct{} {
	r := u.Replicas[0]
	for _, other := range u.Replicas {
		if other.Ready(model) {
			r = other
			break
		}
	}
	if done := u.Load(r, model, false); done != nil {
		return done
	}
	done := make(chan struct{})
	close(done)
	return done
}

// Unload unloads a model at all replicas. Only for an upstream that loads models on demand.
func (u *Upstream) Unload(ctx context.Context, model string) {
	var all sync.WaitGroup
	for _, r := range u.Replicas {
		all.Go(func() {
			u.ActualKind().unloadModel(&probe{ctx: ctx, u: u, base: u.base(r), timeout: refreshTimeout}, model)
			u.loads.mu.Lock()
			defer u.loads.mu.Unlock()
			delete(u.loads.loaded, replicaModel{r, model})
		})
	}
	all.Wait()
	u.loadedModels.outdate()
}
