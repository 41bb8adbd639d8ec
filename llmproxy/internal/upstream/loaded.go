package upstream

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
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

// readyReplica returns the first replica that can answer, or just the first one.
func (u *Upstream) readyReplica(model string) *replica.Replica {
	for _, r := range u.Replicas {
		if r.Ready(model) {
			return r
		}
	}
	return u.Replicas[0]
}

// LoadFor loads a model at a replica that can answer, and returns a channel that is closed when it is loaded. The model stays for as long
// as usual from now on, or for as long as the client says, if it may. Only for an upstream that loads models on demand.
func (u *Upstream) LoadFor(ctx context.Context, model string, keepAlive []byte) <-chan struct{} {
	if !slices.Contains(u.AllowOptions, keepAliveMember) {
		keepAlive = nil
	}
	r, done := u.readyReplica(model), make(chan struct{})
	loading, _ := u.Load(r, model, false)
	go func() {
		defer close(done)
		if loading != nil {
			<-loading
		}
		if stay := u.ActualKind().stay; stay != nil && (loading == nil || keepAlive != nil) {
			stay(&probe{ctx: ctx, u: u, base: u.base(r), timeout: refreshTimeout}, model, keepAlive)
			u.Touch(r, model)
		}
	}()
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
	u.residents.outdate()
}

const (
	// residentFresh is the age of what is known of the models in memory from which on a request has it refreshed, residentStale the age from
	// which on a request waits for that, for at most residentWait.
	residentFresh = 2 * time.Second
	residentStale = 10 * time.Second
	residentWait  = 100 * time.Millisecond
	// residentUse is how long after a request for it a model counts as in use, so that it should stay in memory.
	residentUse = 30 * time.Second
)

// inMemory is what a server says of the models that it has in memory.
type inMemory struct {
	// all means that it has all of its models in memory.
	all    bool
	models []string
	// most is how many fit into memory at once; zero if the server does not say so.
	most int
	// aliases are other names of models.
	aliases map[string]string
	// expires is when each model is to be unloaded, in the server's own words. That changes only when a request for the model ends, or if
	// none has since it was loaded. Nil if the server does not say it.
	expires map[string]string
}

// residents is what is known of the models that the replicas have in memory.
type residents struct {
	mu      sync.Mutex
	at      time.Time     // of the last refresh
	running chan struct{} // closed when the running refresh ends; nil if no refresh is running
	of      map[*replica.Replica]residentList
	used    map[*replica.Replica]usedModel
	others  map[*replica.Replica]usedModel // by other clients
	own     map[replicaModel]time.Time     // when the gateway last had something to do with a model
	aliases atomic.Pointer[map[string]string]
}

// A residentList is what a replica said when it was asked.
type residentList struct {
	inMemory
	asked time.Time
}

// A usedModel is the model of a replica's latest request.
type usedModel struct {
	model string
	at    time.Time
}

// HasResidents reports whether servers of the upstream's kind keep only some of their models in memory.
func (u *Upstream) HasResidents() bool { return u.ActualKind().resident != nil }

// OwnName returns the name that stands for a model among several that mean the same one there.
func (u *Upstream) OwnName(model string) string {
	kind := u.ActualKind()
	if kind.resident == nil {
		return model
	}
	if aliases := u.residents.aliases.Load(); aliases != nil {
		if name, ok := (*aliases)[model]; ok {
			return name
		}
	}
	if kind == Ollama {
		return strings.ToLower(strings.TrimSuffix(model, ollamaLatest))
	}
	return model
}

// has reports whether a model is in memory.
func (l *residentList) has(u *Upstream, model string) bool {
	return l.all || slices.ContainsFunc(l.models, func(name string) bool { return u.OwnName(name) == u.OwnName(model) })
}

// Preference returns whether the replica has a model in memory or, if it does not, whether it would probably have to unload one that is in
// use. The answer is at most a few seconds old. While it is not known, the replica counts as one that can load the model.
func (u *Upstream) Preference(r *replica.Replica, model string) router.Preference {
	if !u.HasResidents() || u.loads.isLoading(r, model) {
		return router.Resident
	}
	u.FreshenResidents(true)
	s := &u.residents
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.of[r]
	if list.has(u, model) {
		return router.Resident
	}
	for _, used := range []usedModel{s.used[r], s.others[r]} {
		if time.Since(used.at) < residentUse && u.OwnName(used.model) != u.OwnName(model) {
			return router.InUse
		}
	}
	return router.Loadable
}

// InMemory returns the models that a replica has in memory, as it last said. Known is false if it does not say so.
func (u *Upstream) InMemory(r *replica.Replica) (models []string, known bool) {
	if !u.HasResidents() {
		return nil, false
	}
	u.FreshenResidents(true)
	s := &u.residents
	s.mu.Lock()
	defer s.mu.Unlock()
	list, known := s.of[r]
	return slices.Clone(list.models), known
}

// HasInMemory reports whether any replica has a model in memory, as far as the replicas have said so lately.
func (u *Upstream) HasInMemory(model string) (is, known bool) {
	if !u.HasResidents() {
		return false, false
	}
	u.FreshenResidents(true)
	s := &u.residents
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.of {
		is = is || list.has(u, model)
	}
	return is, len(s.of) > 0
}

// FreshenResidents asks the replicas again which models they have in memory if their last answers are too old, and waits for that if they
// are much too old and wait is set.
func (u *Upstream) FreshenResidents(wait bool) {
	ask := u.ActualKind().resident
	if ask == nil {
		return
	}
	s := &u.residents
	s.mu.Lock()
	age := time.Since(s.at)
	if s.running == nil && age > residentFresh {
		s.running = make(chan struct{})
		go u.refreshResidents(ask)
	}
	running := s.running
	s.mu.Unlock()
	if running == nil || age < residentStale || !wait {
		return
	}
	timer := time.NewTimer(residentWait)
	defer timer.Stop()
	select {
	case <-running:
	case <-timer.C:
	}
}

// refreshResidents asks every replica. What is known of one that does not answer stays: it may be loading another model.
func (u *Upstream) refreshResidents(ask func(*probe) (inMemory, error)) {
	s := &u.residents
	var asked sync.WaitGroup
	for i, r := range u.Replicas {
		asked.Go(func() {
			now := time.Now()
			found, err := ask(&probe{ctx: context.Background(), u: u, base: u.Bases[i], timeout: probeTimeout})
			if err != nil {
				return
			}
			if len(found.aliases) > 0 {
				s.aliases.Store(&found.aliases)
			}
			s.mu.Lock()
			if s.of == nil {
				s.of = map[*replica.Replica]residentList{}
			}
			before := s.of[r]
			s.of[r] = residentList{found, now}
			other, uses := s.usedByOthers(u, r, before)
			s.mu.Unlock()
			u.tellModels(r, found, now)
			if uses {
				u.tellOther(r, other, now)
			}
		})
	}
	asked.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Now()
	close(s.running)
	s.running = nil
}

// tellModels lets the admission queue know which models a replica has in memory, or is loading.
func (u *Upstream) tellModels(r *replica.Replica, found inMemory, asked time.Time) {
	m := admission.Models{Asked: asked, All: found.all, Most: found.most}
	add := func(model string) {
		if name := u.OwnName(model); !slices.Contains(m.InMemory, name) {
			m.InMemory = append(m.InMemory, name)
		}
	}
	for _, model := range found.models {
		add(model)
	}
	for _, model := range u.loads.runningAt(r) {
		add(model)
	}
	r.Queue().ObserveModels(m)
}

// maxOwn bounds the models whose last use by the gateway is remembered.
const maxOwn = 256

// touch records that the gateway has something to do with a model. The caller holds the lock.
func (s *residents) touch(r *replica.Replica, model string) {
	if s.own == nil || len(s.own) >= maxOwn {
		s.own = map[replicaModel]time.Time{}
	}
	s.own[replicaModel{r, model}] = time.Now()
}

// Touch records that the gateway has something to do with a model at a replica: a request for it begins or ends, or the gateway loads it.
func (u *Upstream) Touch(r *replica.Replica, model string) {
	if !u.HasResidents() {
		return
	}
	s := &u.residents
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch(r, u.OwnName(model))
}

// usedByOthers returns a model that another client has used since the list before: its expiry has moved, although the gateway has had
// nothing to do with it since. An older list says nothing about now. The caller holds the lock.
func (s *residents) usedByOthers(u *Upstream, r *replica.Replica, before residentList) (model string, uses bool) {
	now := s.of[r]
	if now.asked.Sub(before.asked) > residentStale {
		return "", false
	}
	for model, expires := range now.expires {
		was, known := before.expires[model]
		at := replicaModel{r, u.OwnName(model)}
		if known && was != expires && s.own[at].Before(before.asked) && !r.Queue().Serves(at.model) {
			return model, true
		}
	}
	return "", false
}

// tellOther records that another client uses a model at a replica. How many requests it has there is unknown, so that it counts as one.
func (u *Upstream) tellOther(r *replica.Replica, model string, asked time.Time) {
	s := &u.residents
	s.mu.Lock()
	if s.others == nil {
		s.others = map[*replica.Replica]usedModel{}
	}
	s.others[r] = usedModel{model, asked}
	s.mu.Unlock()
	own := r.InFlight()
	r.Queue().Observe(admission.Load{Known: true, Asked: asked, Own: own, Running: own + 1})
}

// lacksSince reports whether a replica has said since a time that it does not have a model in memory.
func (s *residents) lacksSince(u *Upstream, r *replica.Replica, model string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, known := s.of[r]
	return known && list.asked.After(since) && !list.has(u, model)
}

// loadsOnDemand reports whether a replica keeps only some of its models in memory, and whether that is known.
func (s *residents) loadsOnDemand(r *replica.Replica) (loads, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, known := s.of[r]
	return known && !list.all, known
}

// Use records that a replica gets a request for a model. Wait says that it matters now whether the model is in memory.
func (u *Upstream) Use(r *replica.Replica, model string, wait bool) {
	if !u.HasResidents() {
		return
	}
	s := &u.residents
	s.mu.Lock()
	if s.used == nil {
		s.used = map[*replica.Replica]usedModel{}
	}
	other := s.used[r].model != model
	s.used[r] = usedModel{model, time.Now()}
	s.touch(r, u.OwnName(model))
	s.mu.Unlock()
	if other || wait {
		u.FreshenResidents(wait)
	}
}

// outdate has the next request ask the replicas again.
func (s *residents) outdate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
}
