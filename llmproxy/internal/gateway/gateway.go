// Package gateway is the pipeline: what happens to a request from authentication to its record. Serve is its table of contents. The
// package also evaluates the routing rules of models and keeps sessions on their routes.
//
// It does not itself read bodies, reserve limits, make attempts or write answers. The packages of the steps do that; it stands above
// them and below llmproxy.
package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// DefaultMaxBody is the default limit for decompressed request bodies: 32 MiB, the same as Anthropic's. Images fit.
const DefaultMaxBody = 32 << 20

// A Matcher reports whether a request takes a route. Every router.Matcher in Config.Models must implement it.
type Matcher interface {
	Match(*http.Request, *exchange.Record) bool
}

// A Config configures a Gateway.
type Config struct {
	delivery.Config
	// Models has the plans of the configured models.
	Models *router.Table
	// Discover serves the models that the upstreams have under their own names.
	Discover bool
	// Auto serves the model catalog.RuleAuto with the first upstream that is present, for a gateway without configuration.
	Auto bool
	// MaxBody is the maximum size of a decompressed request body in bytes. Zero means DefaultMaxBody.
	MaxBody int64
	// Access has the keys and the limits; nil allows everything to everybody.
	Access *access.Access
	// Deadline is how long a request may take until its first content, including all attempts and waits. Zero means no limit.
	Deadline time.Duration
	// LocalOnly reports whether a request may only go to local upstreams. If it is nil, no request is limited in that way.
	LocalOnly func(*http.Request, *exchange.Record) bool
	// Affinity keeps sessions on their routes; nil if no model has routes.
	Affinity *Affinity
	// Stored knows which upstreams store responses; nil to ask whichever the model leads to.
	Stored *StoredResponses
	// Cache is the response cache. It may be nil.
	Cache *answercache.Cache
	// SimpleChat is the model that answers the simple chat, whose paths are only served if there is one.
	SimpleChat string
	// Account is called with the record of every request when it is over, even after disconnects and panics. It may be nil and must not
	// block.
	Account func(*exchange.Record)
}

// A Gateway serves OpenAI's API in front of upstreams. It is safe for concurrent use, and continues to work for requests in progress
// after a new configuration has replaced it.
type Gateway struct {
	Config
	catalog  *catalog.Catalog
	delivery *delivery.Delivery
	deliver  answercache.Deliver
	uploads  reqbody.Uploads
}

// New returns a new Gateway. It must be closed.
func New(c Config) *Gateway {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	g := &Gateway{
		Config:   c,
		catalog:  &catalog.Catalog{Upstreams: c.Upstreams, Models: c.Models, Discover: c.Discover, Auto: c.Auto},
		delivery: delivery.New(c.Config),
	}
	g.deliver = g.delivery.Deliver
	if c.Cache != nil {
		g.deliver = c.Cache.Wrap(g.delivery.Deliver, g.delivery.Upstream)
	}
	return g
}

// Status returns what can be served now. It probes replicas that can be probed; the others are judged by their traffic.
func (g *Gateway) Status(ctx context.Context) catalog.Status {
	g.delivery.Health.ProbeAll(ctx)
	return g.catalog.Status(ctx)
}

// WatchAll starts to probe the replicas that were not ready under the previous configuration.
func (g *Gateway) WatchAll() { g.delivery.Health.WatchAll() }

// Close stops all probes. Requests are not affected.
func (g *Gateway) Close() { g.delivery.Health.Close() }

// A Task is what a request asks for, according to its path.
type Task struct {
	endpoint *openai.Endpoint // to generate, or to count the tokens of a prompt
	api      dialect.API      // that the path belongs to
	info     *info            // to answer with what the gateway knows
	models   bool             // the list of models, or the model modelID
	modelID  string
	quota    bool   // the caller's quota
	status   bool   // the caller's requests that wait
	closed   string // why the path is not served, and what to do
	upgrade  bool   // a WebSocket, which is not served
}

// Endpoint returns the name of the endpoint if the task has one, else "".
func (t Task) Endpoint() string {
	if t.endpoint == nil {
		return ""
	}
	return t.endpoint.Name
}

// apiOf returns the API that the client uses. Paths that both APIs have belong to Anthropic's clients if they say so.
func (t Task) apiOf(r *http.Request) dialect.API {
	if t.endpoint == nil && t.api == dialect.OpenAI && r.Header["Anthropic-Version"] != nil {
		return dialect.Anthropic
	}
	return t.api
}

// Translate returns a request to the task's path in OpenAI's format, or nil if it is invalid.
func (t Task) Translate(request *openai.Request) *openai.Request {
	if t.endpoint == nil || !t.endpoint.Foreign {
		return request
	}
	body, _, err := dialect.EndpointOf(t.endpoint).Request(&request.Object, dialect.AllOptions)
	translated := new(openai.Request)
	if err != nil || translated.Parse(body) != nil {
		return nil
	}
	return translated
}
