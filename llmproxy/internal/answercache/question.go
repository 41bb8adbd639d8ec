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

// A question is a request as the cache sees it.
type question struct {
	control caching.Control
	// places are where the answer may be stored; it is stored at the first.
	places []caching.Key
	keep   time.Duration // how long it is stored
	purges int64         // of the cache, before the answer is begun
	batch  *batch        // the items of a request for embeddings; nil for other requests
	room   [2]caching.Key
}

func (q *question) at(places ...caching.Key) { q.places = append(q.room[:0], places...) }

var canons = sync.Pool{New: func() any { return new(canonjson.Encoder) }}

// question makes the question of a request; false if its answer must come from an upstream and is not stored.
func (l *lookup) question(control caching.Control) (*question, bool) {
	head, endpoint := l.ask.Body.JSON(), l.x.Endpoint
	if head == nil || control.NoStore || !l.Endpoints[endpoint.Name] ||
		head.NotCacheable(endpoint) != "" || l.Deterministic && !head.Deterministic(endpoint) {
		return nil, false
	}
	q := &question{control: control, purges: l.Shared.Purges(), keep: control.Keep(l.TTL, l.MaxTTL)}
	canon := canons.Get().(*canonjson.Encoder)
	defer canons.Put(canon)
	if endpoint.Name == "embeddings" {
		return q, l.splitItems(q, canon)
	}
	form, err := canon.Object(&head.Object, openai.NotInCacheKey)
	if err != nil {
		return nil, false
	}
	hash := l.scope()
	hash.Bytes("body", form)
	key := hash.Key()
	switch {
	case endpoint.Framing != openai.Typed:
		q.at(key)
	case l.x.Record.Stream: // it cannot be made from a whole answer, so that both are stored
		q.at(eventsOf(key))
	default:
		q.at(key, eventsOf(key))
	}
	return q, true
}

// eventsOf is where a stream is stored that is not one with the whole answer.
func eventsOf(key caching.Key) caching.Key { return key.With("form", []byte("events")) }

// scope begins a key with everything but the body: who shares answers, and what would generate them, as it is configured.
func (l *lookup) scope() *caching.Hash {
	rec, r := l.x.Record, l.x.Request
	h := caching.NewHash()
	h.Field("cache", l.Name)
	h.Field("site", siteOf(r))
	if !l.Everybody {
		h.Field("key", rec.Key)
	}
	h.Field("endpoint", l.x.Endpoint.Name)
	h.Field("model", rec.Model)
	h.Field("rule", l.ask.Plan.Rule)
	l.ask.Plan.Targets(func(t router.Target) {
		h.Field("upstream", t.Upstream.Name)
		u := l.upstreams(t.Upstream)
		h.Field("configuration", u.Fingerprint)
		h.Field("target", t.ModelFor(rec.Model))
		changed(h, u, r)
	})
	for _, name := range keyHeaders {
		vary(h, r, name)
	}
	for _, name := range l.Vary {
		vary(h, r, name)
	}
	return h
}

// keyHeaders are all that an upstream sees of a request's header and that says something of the answer; and what dialects are
// told apart by.
var keyHeaders = append(upstream.AnswerHeaders(), "Anthropic-Version", "Anthropic-Beta")

// changed adds what header_up makes of this request.
func changed(h *caching.Hash, u *upstream.Upstream, r *http.Request) {
	headers, host := u.RewrittenHeaders(r.Context(), r.Header)
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

func vary(h *caching.Hash, r *http.Request, name string) {
	values := r.Header[name]
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
