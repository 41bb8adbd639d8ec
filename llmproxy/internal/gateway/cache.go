package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Cache is the rules by which answers are kept and given again.
type Cache struct {
	// Shared is what outlives a configuration.
	Shared *caching.Cache
	// Store keeps the answers: Shared.Memory, or one that other gateways share.
	Store caching.Store
	// Name keeps caches apart that share a store.
	Name string
	// TTL is how long an answer is kept, MaxTTL the longest that a client may ask for.
	TTL, MaxTTL time.Duration
	// MaxEntry bounds an answer that is kept, MaxSize all of them in memory, and also all that are being written down; in bytes.
	MaxEntry, MaxSize int64
	// Everybody lets all clients of a site share answers; otherwise only those with the same key do.
	Everybody bool
	// Deterministic keeps only answers of temperature 0.
	Deterministic bool
	// Length keeps answers, too, that were cut at max_tokens.
	Length bool
	// Endpoints are the names of those whose answers are kept.
	Endpoints map[string]bool
	// Vary are further request headers on which answers depend, in their canonical spelling.
	Vary []string
	// Semantic gives answers to questions that are worded otherwise; nil for none.
	Semantic *Semantic
}

// What X-LLM-Cache and the record say.
const (
	cacheHit       = "hit"
	cacheMiss      = "miss"
	cacheCoalesced = "coalesced"
	cacheBypass    = "bypass"
	cacheSemantic  = "semantic"
)

// A question is a request as the cache sees it.
type question struct {
	control caching.Control
	// places are where the answer may stand; the first is where it is kept.
	places []caching.Key
	keep   time.Duration
	purges int64           // of the cache, before the answer is begun
	batch  *batch          // the items of a request for embeddings; nil for other requests
	phrase *caching.Phrase // for the index; nil where its wording must be the same
	room   [2]caching.Key
}

func (q *question) at(places ...caching.Key) { q.places = append(q.room[:0], places...) }

var canons = sync.Pool{New: func() any { return new(wire.Canon) }}

// question makes the question of a request; false if its answer must come from an upstream and is not kept.
func (c *call) question(plan *router.Plan, control caching.Control) (*question, bool) {
	rules := c.g.Cache
	if c.up.Head == nil || control.NoStore || !rules.Endpoints[c.task.endpoint.Name] ||
		c.head.Unrepeatable(c.task.endpoint) != "" || rules.Deterministic && !c.head.Deterministic(c.task.endpoint) {
		return nil, false
	}
	q := &question{control: control, purges: rules.Shared.Purges(), keep: control.Keep(rules.TTL, rules.MaxTTL)}
	canon := canons.Get().(*wire.Canon)
	defer canons.Put(canon)
	if c.task.endpoint.Name == "embeddings" {
		return q, c.askItems(q, canon, plan)
	}
	form, err := canon.Object(&c.head.Object, wire.ChangesNothing)
	if err != nil {
		return nil, false
	}
	hash := c.scope(plan)
	hash.Bytes("body", form)
	key := hash.Key()
	switch {
	case c.task.endpoint.Framing != wire.Typed:
		q.at(key)
	case c.rec.Stream: // it cannot be made from a whole answer, so that both are kept
		q.at(eventsOf(key))
	default:
		q.at(key, eventsOf(key))
	}
	return q, true
}

// eventsOf is where a stream is kept that is not one with the whole answer.
func eventsOf(key caching.Key) caching.Key { return key.With("form", []byte("events")) }

// scope begins a key with everything but the body: who shares answers, and what would generate them, as it is configured.
func (c *call) scope(plan *router.Plan) *caching.Hash {
	rules := c.g.Cache
	h := caching.NewHash()
	h.Field("cache", rules.Name)
	h.Field("site", siteOf(c.r))
	if !rules.Everybody {
		h.Field("key", c.tenant())
	}
	h.Field("endpoint", c.task.endpoint.Name)
	h.Field("model", c.rec.Model)
	h.Field("rule", plan.Rule)
	plan.Targets(func(t router.Target) {
		h.Field("upstream", t.Upstream.Name)
		u := c.g.upstreams[t.Upstream]
		h.Field("configuration", u.Fingerprint)
		h.Field("target", t.ModelFor(c.rec.Model))
		c.changed(h, u)
	})
	for _, name := range keyHeaders {
		c.vary(h, name)
	}
	for _, name := range rules.Vary {
		c.vary(h, name)
	}
	return h
}

// keyHeaders are all that an upstream sees of a request's header and that says something of the answer; and what dialects are told
// apart by.
var keyHeaders = append(upstream.TellingHeaders(), "Anthropic-Version", "Anthropic-Beta")

// changed adds what header_up makes of this request.
func (c *call) changed(h *caching.Hash, u *upstream.Upstream) {
	headers, host := u.Changed(c.r.Context(), c.r.Header)
	if headers == nil {
		return
	}
	h.Field("host there", host)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, v := range headers[name] {
			h.Field("header there", name)
			h.Field("value", v)
		}
	}
}

func (c *call) vary(h *caching.Hash, name string) {
	values := c.r.Header[name]
	h.Field(name, strconv.Itoa(len(values)))
	for _, v := range values {
		h.Field(name, v)
	}
}

// siteOf is the site as clients know it: keys of one name may be somebody else's on another one.
func siteOf(r *http.Request) string {
	host := r.Host
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') { // not one within an address
		host = host[:colon]
	}
	return strings.ToLower(host)
}

// tenant is who an answer belongs to: a key's name, or everybody who has none.
func (c *call) tenant() string { return c.rec.Key }

// mark tells what the cache did.
func (c *call) mark(how string) {
	c.w.Header()["X-Llm-Cache"] = []string{how}
	c.count(how)
}

// count tells the record and the statistics what the cache did.
func (c *call) count(how string) {
	c.rec.Cache = how
	counts := &c.g.Cache.Shared.Counts
	switch how {
	case cacheHit:
		counts.Hits.Add(1)
	case cacheMiss:
		counts.Misses.Add(1)
	case cacheCoalesced:
		counts.Coalesced.Add(1)
	case cacheBypass:
		counts.Bypassed.Add(1)
	case cacheSemantic:
		counts.Similar.Add(1)
	}
}
