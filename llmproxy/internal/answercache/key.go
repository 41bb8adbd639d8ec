package answercache

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A query is what a request asks of the cache.
type query struct {
	control    caching.Control
	keys       []caching.Key // under which the answer may be stored; a new one is stored under the first
	ttl        time.Duration // for which a new answer is stored
	purgeCount int64         // when the request began
	batch      *batch        // of a request for embeddings; nil for other requests
	keyArray   [2]caching.Key
}

func (q *query) setKeys(keys ...caching.Key) { q.keys = append(q.keyArray[:0], keys...) }

var encoders = sync.Pool{New: func() any { return new(canonjson.Encoder) }}

// query returns what a request asks of the cache. It returns false if the answer must be generated and is not stored.
func (l *lookup) query(control caching.Control) (*query, bool) {
	head, endpoint := l.planned.Body.JSON(), l.x.Endpoint
	if head == nil || control.NoStore || !l.Endpoints[endpoint.Name] ||
		head.NotCacheable(endpoint) != "" || l.hostedByTarget() || l.DeterministicOnly && !head.Deterministic(endpoint) {
		return nil, false
	}
	q := &query{control: control, purgeCount: l.Shared.PurgeCount(), ttl: control.StoreFor(l.TTL, l.MaxTTL)}
	encoder := encoders.Get().(*canonjson.Encoder)
	defer encoders.Put(encoder)
	if endpoint.Name == "embeddings" {
		return q, l.queryItems(q, encoder)
	}
	body, err := encoder.Object(&head.Object, openai.NotInCacheKey)
	if err != nil {
		return nil, false
	}
	hash := l.scopeHash()
	hash.Bytes("body", body)
	key := hash.Key()
	switch {
	case endpoint.Framing != openai.Typed:
		q.setKeys(key)
	case l.x.Record.Stream: // a Responses stream cannot be made from a whole answer, so both are stored
		q.setKeys(eventsKey(key))
	default:
		q.setKeys(key, eventsKey(key))
	}
	return q, true
}

// hostedByTarget reports whether one of the targets makes the answer depend on more than the request: its model searches the web, or
// its upstream adds a member that turns on a tool of the service.
func (l *lookup) hostedByTarget() (found bool) {
	rec, head := l.x.Record, l.planned.Body.JSON()
	generates := l.x.Endpoint.Streams()
	if generates && openai.SearchesWeb(rec.Model) {
		return true
	}
	l.planned.Plan.Targets(func(t router.Target) {
		found = found || generates && openai.SearchesWeb(t.ModelFor(rec.Model))
		for _, p := range l.upstreams(t.Upstream).Params {
			if _, own := head.Get(p.Name); !own && openai.DependsOnMore([]byte(p.Name), p.Value) {
				found = true
			}
		}
	})
	return found
}

// eventsKey returns the key of a stream that is stored besides the whole answer.
func eventsKey(key caching.Key) caching.Key { return key.With("form", []byte("events")) }

// scopeHash returns a hash of everything but the body that an answer depends on: who shares it, and the targets that would
// generate it, with their configuration.
func (l *lookup) scopeHash() *caching.Hash {
	rec, r := l.x.Record, l.x.Request
	h := caching.NewHash()
	h.Field("cache", l.Name)
	h.Field("site", siteName(r))
	if !l.SiteScope {
		h.Field("caller", rec.Identity)
	}
	h.Field("endpoint", l.x.Endpoint.Name)
	h.Field("model", rec.Model)
	h.Field("rule", l.planned.Plan.Rule)
	l.planned.Plan.Targets(func(t router.Target) {
		h.Field("upstream", t.Upstream.Name)
		u := l.upstreams(t.Upstream)
		h.Field("configuration", u.Fingerprint)
		h.Field("target", t.ModelFor(rec.Model))
		addRewrittenHeaders(h, u, r)
	})
	for _, name := range keyHeaders {
		addHeader(h, r, name)
	}
	for _, name := range l.Vary {
		addHeader(h, r, name)
	}
	return h
}

// keyHeaders are the request headers that reach upstreams and on which answers depend, and those that distinguish dialects.
var keyHeaders = append(upstream.AnswerHeaders(), "Anthropic-Version", "Anthropic-Beta")

// addRewrittenHeaders adds what header_up makes of this request's headers.
func addRewrittenHeaders(h *caching.Hash, u *upstream.Upstream, r *http.Request) {
	headers, host := u.RewrittenHeaders(r.Context(), r.Header)
	if headers == nil {
		return
	}
	h.Field("upstream host", host)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, v := range headers[name] {
			h.Field("upstream header", name)
			h.Field("value", v)
		}
	}
}

func addHeader(h *caching.Hash, r *http.Request, name string) {
	values := r.Header[name]
	h.Field(name, strconv.Itoa(len(values)))
	for _, v := range values {
		h.Field(name, v)
	}
}

// siteName returns the host name of the request: a key of the same name may belong to someone else on another site.
func siteName(r *http.Request) string {
	host := r.Host
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') { // not a colon of an IPv6 address
		host = host[:colon]
	}
	return strings.ToLower(host)
}
