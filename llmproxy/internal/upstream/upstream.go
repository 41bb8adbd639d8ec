package upstream

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Config is what an upstream is configured to be.
type Config struct {
	Name string
	Kind *Kind
	// Optional makes the upstream absent until a server of its kind was found at its address: for the usual local ports,
	// where anything may listen.
	Optional bool
	Bases    []*url.URL
	// APIKey is sent as a bearer token; empty for none.
	APIKey string
	// Fingerprint stands for everything in the configuration that answers may depend on.
	Fingerprint string
	// HeaderUp changes a request's headers last; nil for no change.
	HeaderUp func(*http.Request)
	Params   []Param
	Drop     []string
	Timers   Timers
	// MaxConcurrent is how many requests may be at one replica at once. Zero means the kind's.
	MaxConcurrent int
	// Room is the waiting room of each replica.
	Room router.Room
	// Local says whether it runs on machines of one's own; nil where its kind tells.
	Local *bool
	// Can is what is said of all its models, ModelCan of single ones.
	Can      Said
	ModelCan map[string]Said
	// Transport carries the requests; its connections are the caller's to close.
	Transport http.RoundTripper
}

// A Param is a member that is added to a request that does not have it.
type Param struct {
	Name  string
	Value []byte // JSON
}

// Timers bound the waits of one attempt. Zero means the default of each.
type Timers struct {
	// FirstToken bounds the wait for the first content of a stream. Default: 30 s while another target is left, else 5 min.
	FirstToken time.Duration
	// Idle bounds the silence between two events of a stream. Default: 60 s.
	Idle time.Duration
	// Total bounds the whole attempt. Default: none for streams, 10 min for other answers, which show no sign of life before
	// they are complete.
	Total time.Duration
	// Load bounds the wait for a model that is loading. Default: 5 min.
	Load time.Duration
}

// An Upstream is a server or service that generates, reached at one or more replicas.
type Upstream struct {
	Config
	// Route is the upstream as the router sees it; its replicas stand in the order of Bases.
	Route *router.Upstream
	kind  atomic.Pointer[Kind]
	look  lookout
	facts facts
	// loader knows which models are loaded.
	loader loader
}

// New makes an upstream. Replica gives the shared facts of an address.
func New(c Config, replica func(address string) *router.Replica) *Upstream {
	u := &Upstream{Config: c, Route: &router.Upstream{Name: c.Name, Room: c.Room}}
	for _, base := range c.Bases {
		u.Route.Replicas = append(u.Route.Replicas, replica(base.String()))
	}
	u.Route.SetLimit(c.MaxConcurrent)
	if c.Kind != Auto {
		u.become(c.Kind)
	}
	u.Route.Local = u.IsLocal
	u.facts.start(&u.Config)
	if c.Kind == Echo {
		u.Transport = echo{}
	}
	return u
}

// become takes the kind that was configured or found.
func (u *Upstream) become(k *Kind) {
	u.kind.Store(k)
	if u.MaxConcurrent == 0 {
		u.Route.SetLimit(k.slots)
	}
}

// Speaks is the kind of the upstream as far as known now.
func (u *Upstream) Speaks() *Kind {
	if k := u.kind.Load(); k != nil {
		return k
	}
	return OpenAI
}

// base finds the address of a replica.
func (u *Upstream) base(r *router.Replica) *url.URL {
	for i, candidate := range u.Route.Replicas {
		if candidate == r {
			return u.Bases[i]
		}
	}
	return u.Bases[0]
}
