package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Discovery is what was found when an upstream was last asked for its kind and its models. It is immutable.
type Discovery struct {
	// Models is the union over the replicas. If no replica answered, it is what was found before.
	Models []Model
	// Present reports whether a server of the right kind was found. Upstreams that are not optional are always present.
	Present bool
	// Err is why no replica answered, or nil.
	Err error
	// unsettled means that the kind is unknown still.
	unsettled bool
	at        time.Time
}

// Model returns the entry of a model, which may be named without ":latest", or an entry with nothing but the name if the model is not listed.
func (d *Discovery) Model(name string) Model {
	for _, m := range d.Models {
		if m.ID == name || strings.TrimSuffix(m.ID, ollamaLatest) == name {
			m.ID = name
			return m
		}
	}
	return Model{ID: name}
}

// Discovery takes milliseconds unless a server hangs, as Ollama does while it loads a model.
const (
	discoveryTimeout   = 2 * time.Second
	discoveryFresh     = 30 * time.Second // older results are used once more while new ones are fetched
	discoveryRetry     = 3 * time.Second  // the same after a failure, and while the kind is unknown
	rediscoveryAtLeast = time.Second      // between discoveries that unknown models cause
)

// discoverer has an upstream's latest discovery. Callers start discoveries, so that an idle gateway causes no traffic.
type discoverer struct {
	mu      sync.Mutex
	latest  *Discovery
	running chan struct{} // closed when the running discovery ends; nil while none is running
}

// Discover returns what is known of the upstream's models. The first call waits for the first discovery. Later calls return the
// latest result at once, and start a discovery in the background if the result is old.
func (u *Upstream) Discover(ctx context.Context) *Discovery {
	latest, done := u.startDiscovery((*Discovery).lifetime)
	if latest != nil {
		return latest
	}
	return u.discoverer.await(ctx, done)
}

// Discovered reports whether a discovery has ended, so that Discover does not wait.
func (u *Upstream) Discovered() bool {
	u.discoverer.mu.Lock()
	defer u.discoverer.mu.Unlock()
	return u.discoverer.latest != nil
}

// Rediscover starts a discovery and waits for the result, unless the last one is less than a second old.
func (u *Upstream) Rediscover(ctx context.Context) *Discovery {
	latest, done := u.startDiscovery(func(*Discovery) time.Duration { return rediscoveryAtLeast })
	if done == nil {
		return latest
	}
	return u.discoverer.await(ctx, done)
}

// Prefetch starts in the background what requests would wait for otherwise: the detection of the kind, the number of slots, the
// list of models where models is true, and the capabilities that servers report.
func (u *Upstream) Prefetch(models bool) {
	if models || u.Kind == Auto || u.Kind.fetchSlots != nil {
		go u.Discover(context.Background())
	}
	u.RefreshCapabilities()
}

func (d *discoverer) await(ctx context.Context, done <-chan struct{}) *Discovery {
	select {
	case <-done:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.latest == nil {
		return &Discovery{Err: context.Cause(ctx)}
	}
	return d.latest
}

func (d *Discovery) lifetime() time.Duration {
	if d.Err != nil || d.unsettled {
		return discoveryRetry
	}
	return discoveryFresh
}

// startDiscovery returns the latest discovery, or nil. If that is older than its lifetime, startDiscovery starts another one, unless
// one is running, and returns a channel that is closed when the running one ends. A discovery has its own context, because its
// result serves all callers, while the client that started it may leave.
func (u *Upstream) startDiscovery(lifetime func(*Discovery) time.Duration) (latest *Discovery, done <-chan struct{}) {
	d := &u.discoverer
	d.mu.Lock()
	defer d.mu.Unlock()
	latest = d.latest
	if latest != nil && time.Since(latest.at) < lifetime(latest) {
		return latest, nil
	}
	if d.running != nil {
		return latest, d.running
	}
	running := make(chan struct{})
	d.running = running
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), discoveryTimeout)
		defer cancel()
		found := u.discover(ctx, latest)
		d.mu.Lock()
		d.latest, d.running = found, nil
		d.mu.Unlock()
		close(running)
	}()
	return latest, running
}

// A listing is a server's answer to the request for its list of models, which every kind of server has.
type listing struct {
	probeAnswer
	models []Model
	err    error // why there are no models
}

// answered reports whether the server sent a list, rather than an error.
func (l *listing) answered() bool { return l.err == nil }

// owners reports whether the list has models and whether ok returns true for the owner of each.
func (l *listing) owners(ok func(m Model) bool) bool {
	return len(l.models) > 0 && !slices.ContainsFunc(l.models, func(m Model) bool { return !ok(m) })
}

// A replicaDiscovery is what was found at one address.
type replicaDiscovery struct {
	kind   *Kind // nil if it is not known yet
	models []Model
	slots  int // zero if the server does not state them
	err    error
}

// discover asks every replica for its kind, if that is unknown, and for its models. It asks all of them at the same time, so that one
// that hangs does not use up the time of the others.
func (u *Upstream) discover(ctx context.Context, last *Discovery) *Discovery {
	found := make([]replicaDiscovery, len(u.Bases))
	present := last != nil && last.Present
	var all sync.WaitGroup
	for i, base := range u.Bases {
		all.Go(func() { found[i] = u.discoverReplica(&probe{ctx: ctx, u: u, base: base}, present) })
	}
	all.Wait()
	d := &Discovery{Present: !u.Optional}
	var models modelSet
	var errs []error
	for i, f := range found {
		if f.kind != nil {
			d.Present = true
			if u.kind.Load() == nil {
				u.setKind(f.kind)
			}
		}
		if f.slots > 0 {
			u.Replicas[i].Queue().SetSlots(f.slots)
		}
		if f.err != nil {
			errs = append(errs, f.err)
		}
		for _, m := range f.models {
			models.add(m)
		}
	}
	d.Models = models.models
	if len(errs) == len(u.Bases) {
		d.Err = errors.Join(errs...)
		if last != nil {
			d.Models = last.Models
		}
	}
	d.unsettled = u.kind.Load() == nil
	d.at = time.Now()
	return d
}

// discoverReplica asks one address. The list of models comes first, because it is needed anyway and says most about the server. Whatever
// else is asked for must be answered soon, or is done without: it must not cost the list, and requests may be waiting.
func (u *Upstream) discoverReplica(p *probe, present bool) (found replicaDiscovery) {
	if u.Kind.unlisted {
		return replicaDiscovery{kind: u.Kind}
	}
	list := p.list()
	found.models, found.err = list.models, list.err
	p.timeout = probeTimeout
	var err error
	if found.kind, err = u.detectKind(p, list, present); found.kind == nil {
		if u.Optional {
			found.models, found.err = nil, err
		}
		return found
	}
	if fetch := found.kind.fetchSlots; fetch != nil {
		found.slots = fetch(p)
	}
	for i := range found.models {
		found.models[i].ID = strings.TrimPrefix(found.models[i].ID, found.kind.namePrefix)
	}
	if path := found.kind.catalog; path != "" && len(found.models) > 0 {
		found.models = p.describe(found.models, path)
	}
	return found
}

// detectKind returns the configured kind, or detects it. For an optional upstream, it returns an error if no server of its kind
// answers, which is asked again only after an absence.
func (u *Upstream) detectKind(p *probe, list *listing, present bool) (*Kind, error) {
	if u.Optional {
		if present && list.answered() {
			return u.Kind, nil
		}
		if list.status != 0 {
			if is, _ := u.Kind.detect(p, list); is {
				return u.Kind, nil
			}
		}
		return nil, fmt.Errorf("no %s server answers at %s", u.Kind.Name, p.base.Host)
	}
	if known := u.kind.Load(); known != nil {
		return known, nil
	}
	if p.base.Path != Auto.basePath {
		return OpenAI, nil // an address with its own path is the base of an API, and other paths must not be probed
	}
	return p.detectKind(list)
}

// detectKind returns the kind of the server, or the error of a server that does not answer, or does not yet: what stands in front of a
// server that is starting answers 502, for example.
func (p *probe) detectKind(list *listing) (*Kind, error) {
	if list.status == 0 {
		return nil, list.err
	}
	for _, k := range Kinds {
		if k.detect == nil {
			continue
		}
		is, err := k.detect(p, list)
		if err != nil {
			return nil, err
		}
		if is {
			return k, nil
		}
	}
	if list.status >= http.StatusInternalServerError {
		return nil, list.err
	}
	return OpenAI, nil
}

// list asks for the list of models in OpenAI's format.
func (p *probe) list() *listing {
	l := &listing{}
	l.probeAnswer, l.err = p.fetch(http.MethodGet, "models", nil)
	switch {
	case l.err != nil:
	case l.status != http.StatusOK:
		l.err = fmt.Errorf("probing %s: status %d for models", p.base.Host, l.status)
	default:
		if l.models, l.err = parseModels(l.body); l.err != nil {
			l.err = fmt.Errorf("probing %s: invalid answer for models: %w", p.base.Host, l.err)
		}
	}
	if l.err != nil {
		l.err = fmt.Errorf("listing models: %w", l.err)
	}
	return l
}

// describe adds what another list says about the models.
func (p *probe) describe(models []Model, path string) []Model {
	status, body, err := p.get(path)
	if err != nil || status != http.StatusOK {
		return models
	}
	more, _ := parseModels(body) // nothing is added if it is no list
	described := modelSet{}
	for _, m := range models {
		described.add(m)
	}
	described.complete = true
	for _, m := range more {
		described.add(m)
	}
	return described.models
}
