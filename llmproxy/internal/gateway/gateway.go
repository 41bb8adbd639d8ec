// Package gateway is the pipeline: what happens to a request from its first header to its record. serve.go is its table of
// contents. It also decides the way that a model's rules choose, and keeps sessions on it.
//
// It reads no body, takes no limit, makes no attempt and writes no answer itself: the steps below do. It stands above them and
// below llmproxy.
package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// DefaultMaxBody bounds request bodies, decoded: 32 MiB, as Anthropic does; images fit.
const DefaultMaxBody = 32 << 20

// A Matcher reports which requests take a route of a model: the type of every router.Matcher in Config.Models.
type Matcher interface {
	Match(*http.Request, *exchange.Record) bool
}

// A Config is what a gateway is made of.
type Config struct {
	Upstreams []*upstream.Upstream
	// Models finds the plan for a configured name.
	Models *router.Table
	// Discover serves the models that the upstreams have under their own names.
	Discover bool
	// Auto serves the name "auto" with the first upstream that is present, in their order: for a gateway that nobody
	// configured.
	Auto bool
	// MaxBody bounds request bodies, in bytes, decoded. Zero means DefaultMaxBody.
	MaxBody int64
	// Access is who may call, and how much; nil if anybody may as much as they like.
	Access *access.Access
	// Prices knows what answers cost; nil if only what is local does.
	Prices *prices.Book
	// Deadline bounds how long a request may take to its first content, over all its attempts and waits. Zero means no bound.
	Deadline time.Duration
	// LocalOnly reports whether a request must not leave for an upstream that is not local; nil where none must not.
	LocalOnly func(r *http.Request, rec *exchange.Record) bool
	// Affinity keeps sessions on their rules; nil where no model has rules.
	Affinity *Affinity
	// Cache stores answers and gives them again; nil for none.
	Cache *answercache.Cache
	// Draining is done when the process is about to end: open streams then end with an error event.
	Draining context.Context
	// Observe hears of every attempt that failed, as it happens; nil for nobody. It must not block.
	Observe func(*exchange.Record, exchange.Attempt)
	// LogPrompts is how many characters of the last user message go into the record, for the log. With zero nothing that a
	// client or a model said does, not even where an upstream's error quotes it.
	LogPrompts int
	// Trace begins the span of an attempt, and returns the context to make it in; nil for no tracing.
	Trace func(context.Context, *exchange.Record, exchange.Attempt) (context.Context, delivery.Span)
	// Streaming hears of each stream that begins, 1, and that is over, -1; nil for nobody.
	Streaming func(int)
	// Changed hears when a replica becomes healthy or unhealthy, and when a model is hidden there; nil for nobody. It must not
	// block.
	Changed func(delivery.Change)
	// Account gets the record of every request when it is over, disconnects and panics included; nil for nobody. It must not
	// block.
	Account func(*exchange.Record)
}

// A Gateway serves OpenAI's API in front of upstreams. It is safe for concurrent use, and goes on working for requests that
// are under way when a new configuration has taken its place.
type Gateway struct {
	Config
	catalog  *catalog.Catalog
	delivery *delivery.Delivery
	deliver  answercache.Deliver
}

// New returns a new Gateway. It must be closed.
func New(c Config) *Gateway {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	g := &Gateway{
		Config:  c,
		catalog: &catalog.Catalog{Upstreams: c.Upstreams, Models: c.Models, Discover: c.Discover, Auto: c.Auto},
		delivery: delivery.New(delivery.Config{
			Upstreams: c.Upstreams, Prices: c.Prices, Draining: c.Draining, LogPrompts: c.LogPrompts > 0,
			Observe: c.Observe, Trace: c.Trace, Streaming: c.Streaming, Changed: c.Changed,
		}),
	}
	g.deliver = g.delivery.Deliver
	if c.Cache != nil {
		g.deliver = c.Cache.Wrap(g.delivery.Deliver, g.delivery.Upstream)
	}
	return g
}

// Status reports what can be served now: local servers are probed, services are judged by traffic.
func (g *Gateway) Status(ctx context.Context) catalog.Status {
	g.delivery.Health.ProbeAll(ctx)
	return g.catalog.Status(ctx)
}

// WatchAll probes the replicas that are not ready: those that an earlier configuration left so.
func (g *Gateway) WatchAll() { g.delivery.Health.WatchAll() }

// Close ends the probes. Requests go on.
func (g *Gateway) Close() { g.delivery.Health.Close() }

// A Task is what a request asks for, as far as its path tells.
type Task struct {
	endpoint *openai.Endpoint
	models   bool   // the list of models, or one of it
	modelID  string // that one's id
	quota    bool   // what is left of the caller's limits
	closed   string // why the path is not served
}

// Endpoint returns the name of the endpoint that generates; empty for any other task.
func (t Task) Endpoint() string {
	if t.endpoint == nil {
		return ""
	}
	return t.endpoint.Name
}

// Match reports whether a path is the gateway's, and returns what it asks for; every other path is for the next handler.
func Match(path string) (Task, bool) {
	if e, ok := openai.LookupEndpoint(path); ok {
		return Task{endpoint: e}, true
	}
	if id, ok := openai.ModelPath(path); ok {
		return Task{models: true, modelID: id}, true
	}
	if path == access.QuotaPath {
		return Task{quota: true}, true
	}
	if why, ok := openai.ClosedPath(path); ok {
		return Task{closed: why}, true
	}
	return Task{}, false
}
