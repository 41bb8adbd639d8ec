package upstream

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// loadTimeoutDefault bounds the loading of a model.
const loadTimeoutDefault = 5 * time.Minute

// LoadTimeout returns how long loading a model may take.
func (u *Upstream) LoadTimeout() time.Duration { return cmp.Or(u.Timers.Load, loadTimeoutDefault) }

const (
	// loadedFor is how long after its last answer a model counts as loaded: less than Ollama keeps it (keep_alive, 5 min).
	loadedFor = 4 * time.Minute
	// maxLoaded bounds how many models are remembered as loaded.
	maxLoaded = 256
)

// modelLoads keeps track of models on servers that load a model on the first request for it: which are loading, and which are loaded as
// far as answers show. On these servers, the gateway itself loads models: Ollama aborts a load when the client leaves that caused it, and
// without a load of its own, a request that is answered elsewhere meanwhile would leave the model as it was.
type modelLoads struct {
	mu      sync.Mutex
	loaded  map[replicaModel]time.Time
	loading map[replicaModel]*load
}

// A load is one that is running.
type load struct {
	began time.Time
	done  chan struct{} // closed when it ends
}

type replicaModel struct {
	replica *replica.Replica
	model   string
}

// CanLoad reports whether servers of the upstream's kind can be told to load a model.
func (u *Upstream) CanLoad() bool { return u.ActualKind().loadModel != nil }

// LoadsOnDemand reports whether a replica loads models on the first request for them. A server that may have one model only, which it
// always has in memory, does so if it has said so. One that has never answered counts as hung, not as loading.
func (u *Upstream) LoadsOnDemand(r *replica.Replica) bool {
	kind := u.ActualKind()
	if kind.loadModel == nil || !kind.oneModel {
		return kind.loadModel != nil
	}
	loads, known := u.residents.loadsOnDemand(r)
	if !known {
		u.FreshenResidents(true)
		loads, _ = u.residents.loadsOnDemand(r)
	}
	return loads
}

func (l *modelLoads) isLoading(r *replica.Replica, model string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loading[replicaModel{r, model}] != nil
}

// runningAt returns the models that are loading at a replica.
func (l *modelLoads) runningAt(r *replica.Replica) (models []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.loading {
		if at.replica == r {
			models = append(models, at.model)
		}
	}
	return models
}

// Load starts loading a model. It returns a channel that is closed when the load ends, and when it began; or nil if the model is loaded. If
// the load fails, the next request gets the error. A load continues after the clients that wait for it have left, and a replica has at most
// one load of a model at a time.
func (u *Upstream) Load(r *replica.Replica, model string, embeddings bool) (done <-chan struct{}, began time.Time) {
	key := replicaModel{r, model}
	l := &u.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	if running := l.loading[key]; running != nil {
		return running.done, running.began
	}
	if at := l.loaded[key]; time.Since(at) < loadedFor && !u.residents.lacksSince(u, r, model, at) {
		return nil, began
	}
	started := &load{time.Now(), make(chan struct{})}
	l.loading[key] = started
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), u.LoadTimeout())
		defer cancel()
		ok := u.ActualKind().loadModel(&probe{ctx: ctx, u: u, base: u.base(r)}, model, embeddings)
		u.Touch(r, model)
		if ok {
			r.Queue().Loaded(u.OwnName(model), time.Since(started.began))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if ok {
			if len(l.loaded) >= maxLoaded {
				clear(l.loaded)
			}
			l.loaded[key] = time.Now()
		}
		delete(l.loading, key)
		close(started.done)
		u.loadedModels.outdate()
		u.residents.outdate()
		u.FreshenResidents(false)
	}()
	return started.done, started.began
}

// ForgetLoaded makes the next Load ask the server, because the model is probably no longer in memory.
func (u *Upstream) ForgetLoaded(r *replica.Replica, model string) {
	u.loads.mu.Lock()
	defer u.loads.mu.Unlock()
	delete(u.loads.loaded, replicaModel{r, model})
}

// ForgetUnloaded reports whether a model is not loaded, or the server does not answer: it may have unloaded the model to make space
// for another one. The next Load then loads it.
func (u *Upstream) ForgetUnloaded(ctx context.Context, r *replica.Replica, model string) bool {
	if u.ActualKind().isLoaded(&probe{ctx: ctx, u: u, base: u.base(r), timeout: probeTimeout}, model) {
		return false
	}
	u.ForgetLoaded(r, model)
	return true
}

const (
	// warmEvery is how often models that stay loaded are loaded again.
	warmEvery = time.Minute
	// warmFor is how long a server is told to keep them. Requests of clients shorten that, and after the gateway has stopped it ends.
	warmFor = "10m"
)

// KeepWarm keeps the models in Warm loaded at every replica until the context ends. It never generates.
func (u *Upstream) KeepWarm(ctx context.Context) {
	if len(u.Warm) == 0 || !u.ActualKind().CanWarm() {
		return
	}
	for {
		var all sync.WaitGroup
		for _, r := range u.Replicas {
			all.Go(func() { u.warm(ctx, r) })
		}
		all.Wait()
		timer := time.NewTimer(warmEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// warm loads the models at one replica, one after the other. It leaves out a replica that is not ready, and a model for which another one
// that is in use would have to be unloaded; their turn comes later.
func (u *Upstream) warm(ctx context.Context, r *replica.Replica) {
	for _, model := range u.Warm {
		if ctx.Err() != nil || !r.Ready(model) || u.Preference(r, model) == router.InUse {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, u.LoadTimeout())
		u.ActualKind().warm(&probe{ctx: limited, u: u, base: u.base(r)}, model)
		cancel()
		u.Touch(r, model)
		u.residents.outdate()
	}
}
