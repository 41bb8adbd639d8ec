package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// DefaultMaxBody bounds request bodies, decoded: 32 MiB, as Anthropic does; images fit.
const DefaultMaxBody = 32 << 20

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
	Access *Access
	// Prices knows what answers cost; nil if only what is local does.
	Prices *prices.Book
	// Deadline bounds how long a request may take to its first content, over all its attempts and waits. Zero means no bound.
	Deadline time.Duration
	// Matches tells whether a request matches a rule of a model, by the number that its RouteConfig has; nil where no model
	// has rules.
	Matches func(r *http.Request, rec *Record, match int) bool
	// LocalOnly tells whether a request must not leave for an upstream that is not local; nil where none must not.
	LocalOnly func(r *http.Request, rec *Record) bool
	// Pins keeps conversations on their rules; nil where no model has rules.
	Pins *Pins
	// Cache keeps answers and gives them again; nil for none.
	Cache *Cache
	// Draining is done when the process is about to end: open streams then end with an error event.
	Draining context.Context
	// Observe hears of every attempt that failed, as it happens; nil for nobody. It must not block.
	Observe func(*Record, Attempt)
	// LogPrompts is how many characters of the last user message go into the record, for the log. With zero nothing that a
	// client or a model said does, not even where an upstream's error quotes it.
	LogPrompts int
	// Trace begins the span of an attempt, and gives the context to make it in; nil for no tracing.
	Trace func(context.Context, *Record, Attempt) (context.Context, Span)
	// Streaming hears of each stream that begins, 1, and that is over, -1; nil for nobody.
	Streaming func(int)
	// Changed hears when a replica becomes healthy or unhealthy, and when a model is hidden there; nil for nobody. It must not
	// block.
	Changed func(Change)
	// Account gets the record of every request when it is over, disconnects and panics included; nil for nobody. It must not
	// block.
	Account func(*Record)
}

// A Span is an attempt as a trace shows it.
type Span interface {
	// Inject puts what the upstream needs to go on with the trace into the headers of the attempt's request.
	Inject(http.Header)
	// End closes the span.
	End(*Record, Attempt)
}

// A Gateway serves OpenAI's API in front of upstreams. It is safe for concurrent use, and goes on working for requests that
// are under way when a new configuration has taken its place.
type Gateway struct {
	Config
	upstreams map[*router.Upstream]*upstream.Upstream
	catalog   catalog
	underWay  underWay
	// closed ends the probes under way.
	closed context.Context
	close  context.CancelFunc
}

// New makes a gateway.
func New(c Config) *Gateway {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	g := &Gateway{Config: c, upstreams: make(map[*router.Upstream]*upstream.Upstream, len(c.Upstreams))}
	for _, u := range c.Upstreams {
		g.upstreams[u.Route] = u
	}
	g.catalog.upstreams = c.Upstreams
	g.closed, g.close = context.WithCancel(context.Background())
	if c.Draining != nil {
		context.AfterFunc(c.Draining, g.underWay.end)
	}
	return g
}

// KindOf names what an upstream speaks, as far as known now.
func (g *Gateway) KindOf(u *router.Upstream) string { return g.upstreams[u].Speaks().Name }

// A Task is what a request asks for, as far as its path tells.
type Task struct {
	endpoint *wire.Endpoint
	models   bool   // the list of models, or one of it
	modelID  string // that one's id
	usage    bool   // what is left of the caller's limits
	closed   string // why the path is not served
}

// Endpoint is the name of the endpoint that generates; empty for any other task.
func (t Task) Endpoint() string {
	if t.endpoint == nil {
		return ""
	}
	return t.endpoint.Name
}

// Match tells whether a path is the gateway's, and what it asks for; every other path is for the next handler.
func Match(path string) (Task, bool) {
	if e, ok := wire.LookupEndpoint(path); ok {
		return Task{endpoint: e}, true
	}
	if id, ok := wire.ModelPath(path); ok {
		return Task{models: true, modelID: id}, true
	}
	if path == UsagePath {
		return Task{usage: true}, true
	}
	if why, ok := wire.ClosedPath(path); ok {
		return Task{closed: why}, true
	}
	return Task{}, false
}

// Serve answers a request whose path matched. The record holds all that is known of it when Serve returns or panics:
// with http.ErrAbortHandler, when an answer that is no stream of events broke off after its first byte.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, task Task, rec *Record) {
	c := g.begin(w, r, task, rec)
	defer c.account()
	if err := c.identify(); err != nil {
		c.fail(err)
		return
	}
	switch {
	case task.closed != "":
		c.showLeft()
		c.fail(notServed(r.URL.Path, task.closed))
	case task.usage:
		c.showUsage()
	case task.models:
		c.showLeft()
		c.listModels()
	default:
		c.generate()
	}
}

// generate is the way of a request that generates.
func (c *call) generate() {
	if err := c.parse(); err != nil {
		c.showLeft()
		c.fail(err)
		return
	}
	if err := c.limit(); err != nil {
		c.fail(err)
		return
	}
	plan, err := c.route()
	if err != nil {
		c.fail(err)
		return
	}
	if c.g.Cache != nil {
		c.replay(plan)
		return
	}
	c.deliver(plan)
}

// draining tells whether the process is about to end: no new attempt is begun then.
func (g *Gateway) draining() bool { return g.Draining != nil && g.Draining.Err() != nil }
