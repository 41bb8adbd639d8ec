// Package upstream knows one upstream: its kind and how that differs from other kinds, how requests to it are built, which models it
// has and what these can take, and which verdict an error of it means. Each kind of server has a file of its own; nothing outside of
// these files depends on the kind.
//
// It never chooses among upstreams (router does), never reads an answer's stream, and never writes to a client (relay does). It gets
// its connections as an http.RoundTripper and knows nothing of Caddy. It stands above router, router/replica, dialect,
// thinking, openai and reqbody.
package upstream

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Config is the configuration of an upstream.
type Config struct {
	Name string
	Kind *Kind
	// Optional makes the upstream absent until a server of its kind is found at its address. It is for the usual local ports, where
	// any program may listen.
	Optional bool
	// Bases are the base URLs of the replicas.
	Bases []*url.URL
	// Replica returns the state of a replica, which all upstreams with that base URL share. If it is nil, nothing is shared.
	Replica func(base string) *replica.Replica
	// APIKey is sent as a bearer token, or in the header of the kind, unless it is empty.
	APIKey string
	// APIVersion selects Azure's older API, which has versions; empty for the current one.
	APIVersion string
	// Fingerprint represents everything in the configuration that answers may depend on.
	Fingerprint string
	// HeaderUp, if set, changes a request's headers last.
	HeaderUp func(*http.Request)
	// Params are added to requests that lack them. The members in Drop are removed.
	Params []Param
	Drop   []string
	// OpenAI chooses the OpenAI API of a kind that has another one, too.
	OpenAI bool
	// AllowOptions are restricted members that clients may use: Ollama's options (see dialect.OllamaRestricted), and those of the kind.
	AllowOptions []string
	Timers       Timers
	// WakeUp wakes the machine when a request cannot reach it; nil if it does not sleep.
	WakeUp *WakeUp
	// Warm are the models that KeepWarm keeps loaded.
	Warm []string
	// MaxConcurrent is how many requests may be at one replica at once. Zero means that the kind and the server decide.
	MaxConcurrent int
	// Queue bounds the admission queue of each replica.
	Queue admission.Config
	// Local is whether the upstream runs on the operator's machines. If it is nil, the kind decides.
	Local *bool
	// Override applies to all models of the upstream, ModelOverrides to single ones.
	Override       Override
	ModelOverrides map[string]Override
	// Transport sends the requests. The caller closes its connections. Built-in kinds need no transport.
	Transport http.RoundTripper
}

// A Param is a member of a JSON object.
type Param struct {
	Name  string
	Value []byte // JSON
}

// Timers bound the waits of one attempt. Zero means the default of each.
type Timers struct {
	// FirstToken bounds the wait for the first content of a stream, unless a local server shows that it works. Default: while another
	// target is left, 30 s and the time that the server may need to read the prompt, else 10 min.
	FirstToken time.Duration
	// Idle bounds the silence between two events of a stream, unless a local server shows that it works. Default: 5 min.
	Idle time.Duration
	// Total bounds the whole attempt. Default: none for streams; 10 min for other answers, which show no sign of life before
	// they are complete, unless a local server shows that it works.
	Total time.Duration
	// Whole is Total for attempts whose answer is not a stream. Default: Total.
	Whole time.Duration
	// Load bounds the wait for a model that is loading. Default: 5 min.
	Load time.Duration
}

// Attempt returns what bounds a whole attempt, or zero if nothing does.
func (t Timers) Attempt(stream bool) time.Duration {
	if stream {
		return t.Total
	}
	return cmp.Or(t.Whole, t.Total)
}

// An Upstream is a server or service that generates, reached at one or more replicas. It is safe for concurrent use.
type Upstream struct {
	Config
	// Group has the replicas, in the order of Bases, with the rules for their slots and queues.
	replica.Group
	// Route is the upstream as the router sees it.
	Route *router.Upstream

	kind         atomic.Pointer[Kind] // nil until it is detected
	discoverer   discoverer
	capabilities capabilities
	loads        modelLoads
	loadedModels loadedModels
	residents    residents
	refusals     refusals
	readings     workReadings
	prefill      prefillRates
	counting     atomic.Int32 // requests that it counts tokens for
}

// New returns a new Upstream.
func New(c Config) *Upstream {
	u := &Upstream{Config: c, Route: &router.Upstream{Name: c.Name}}
	u.Route.Local = u.IsLocal
	u.Group.Queue = c.Queue
	for _, base := range c.Bases {
		r := &replica.Replica{Address: base.String()}
		if c.Replica != nil {
			r = c.Replica(base.String())
		}
		u.Replicas, u.Route.Replicas = append(u.Replicas, r), append(u.Route.Replicas, r)
	}
	u.SetLimit(c.MaxConcurrent)
	if c.Kind != Auto {
		u.setKind(c.Kind)
	}
	if c.Kind.transport != nil {
		u.Transport = c.Kind.transport
	}
	u.capabilities.reported, u.capabilities.learned, u.capabilities.ratios = map[string]router.Capabilities{}, map[string]learnedWindow{}, map[string]float64{}
	if c.Kind.cannot != 0 {
		u.capabilities.reported[anyModel] = router.Capabilities{Lacks: c.Kind.cannot}
	}
	u.publishCapabilities(time.Time{})
	u.loads.loaded, u.loads.loading = map[replicaModel]time.Time{}, map[replicaModel]*load{}
	return u
}

// setKind sets the kind that was configured or detected.
func (u *Upstream) setKind(k *Kind) {
	u.kind.Store(k)
	if u.MaxConcurrent == 0 {
		u.SetInitial(k.slots)
	}
}

// ActualKind returns the kind that was configured or detected, or OpenAI until it is detected.
func (u *Upstream) ActualKind() *Kind { return cmp.Or(u.kind.Load(), OpenAI) }

// IsLocal reports whether the upstream runs on the operator's machines, so that its answers cost nothing and no third party reads the
// requests. While the kind is unknown, it is not local.
func (u *Upstream) IsLocal() bool {
	if u.Local != nil {
		return *u.Local
	}
	kind := u.kind.Load()
	return kind != nil && kind.local
}

// base returns the base URL of a replica.
func (u *Upstream) base(r *replica.Replica) *url.URL {
	return u.Bases[max(slices.Index(u.Replicas, r), 0)]
}
