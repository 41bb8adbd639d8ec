package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A Model is an entry of an upstream's list of models.
type Model struct {
	ID      string
	Created int64
	// ContextWindow is in tokens, or zero if the list does not state it.
	ContextWindow int
}

// A Discovery is what was found when an upstream was last asked for its kind and its models. It is immutable.
type Discovery struct {
	// Models is the union over the replicas. If no replica answered, it is what was found before.
	Models []Model
	// Present reports whether a server of the right kind was found. Upstreams that are not optional are always present.
	Present bool
	// Err is why no replica answered, or nil.
	Err error
	at  time.Time
}

// Discovery takes milliseconds unless a server hangs, as Ollama does while it loads a model.
const (
	discoveryTimeout   = 2 * time.Second
	discoveryFresh     = 30 * time.Second // older results are used once more while new ones are fetched
	discoveryRetry     = 3 * time.Second  // the same after a failure
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
	if d.Err != nil {
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

// discover asks every replica for its kind, if that is unknown, and for its models.
func (u *Upstream) discover(ctx context.Context, last *Discovery) *Discovery {
	d := &Discovery{Present: !u.Optional}
	seen := map[string]bool{}
	var errs []error
	for _, base := range u.Bases {
		p := &probe{ctx: ctx, u: u, base: base}
		if err := u.detectKind(p, d); err != nil {
			errs = append(errs, err)
			continue
		}
		u.adoptSlots(p)
		models, err := p.models()
		if err != nil {
			errs = append(errs, err)
		}
		for _, m := range models {
			if !seen[m.ID] {
				seen[m.ID] = true
				d.Models = append(d.Models, m)
			}
		}
	}
	if len(errs) == len(u.Bases) {
		d.Err = errors.Join(errs...)
		if last != nil {
			d.Models = last.Models
		}
	}
	d.at = time.Now()
	return d
}

// detectKind detects the kind of an upstream for which none is configured, and whether an optional upstream is present.
func (u *Upstream) detectKind(p *probe, d *Discovery) error {
	if u.Optional {
		if is, _ := u.Kind.detect(p); !is {
			return fmt.Errorf("no %s server answers at %s", u.Kind.Name, p.base.Host)
		}
		d.Present = true
		return nil
	}
	if u.kind.Load() != nil {
		return nil
	}
	if p.base.Path != Auto.basePath {
		u.setKind(OpenAI) // an address with its own path is the base of an API, and other paths must not be probed
		return nil
	}
	k, err := p.detectKind()
	if err != nil {
		return err
	}
	u.setKind(k)
	return nil
}

// detectKind returns the kind of the server, or the error of a server that does not answer.
func (p *probe) detectKind() (*Kind, error) {
	for _, k := range Kinds {
		if k.detect == nil {
			continue
		}
		if is, err := k.detect(p); is || err != nil {
			return k, err
		}
	}
	return OpenAI, nil
}

// models reads the list of models in OpenAI's shape, which servers of every kind have.
func (p *probe) models() ([]Model, error) {
	var list struct {
		Data []struct {
			ID      string
			Created json.Number `json:"created"`
			Window  int         `json:"max_model_len"` // vLLM
		} `json:"data"`
	}
	if err := p.json(http.MethodGet, "models", nil, &list); err != nil {
		return nil, fmt.Errorf("listing models: %w", err)
	}
	models := make([]Model, 0, len(list.Data))
	for _, m := range list.Data {
		created, _ := m.Created.Int64() // zero for a fraction, or if it is missing
		if m.ID != "" {
			models = append(models, Model{ID: m.ID, Created: created, ContextWindow: m.Window})
		}
	}
	return models, nil
}
