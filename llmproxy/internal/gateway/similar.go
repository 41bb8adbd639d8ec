package gateway

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/guard"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Semantic is the rules by which a question that was not asked before gets the answer to one that reads like it.
type Semantic struct {
	// Embedder is the upstream whose model Model turns texts into vectors, and Plan the way there.
	Embedder *upstream.Upstream
	Model    string
	Plan     *router.Plan
	// Timeout bounds the wait for it.
	Timeout time.Duration
	// Threshold is how similar two questions must be, from 0 to 1.
	Threshold float64
	// MaxEntries bounds the index of the cache.
	MaxEntries int
	// Failed hears why the embedder did not give what it should; nil for nobody. It must not block.
	Failed func(error)

	rest caching.Rest
}

// NewSemantic makes the rules for an embedder; what they say besides is to be set.
func NewSemantic(embedder *upstream.Upstream, model string) (*Semantic, error) {
	pool, err := router.NewPool(router.LeastBusy, []router.Target{{Upstream: embedder.Route, Model: model}}, nil)
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	return &Semantic{Embedder: embedder, Model: model, Plan: &router.Plan{Rule: "semantic", Pools: []*router.Pool{pool}}}, nil
}

// maxQuestion bounds the questions that are compared, in bytes: small models read the first 256 or 512 tokens of a text only,
// and of a long one a change that matters moves the vector little.
const maxQuestion = 1000

// similar answers with the answer to a question that reads like this one, if there is one. The flight that waits for that,
// if one does, is then over.
func (c *call) similar(ctx context.Context, plan *router.Plan, q *question, f *caching.Flight) bool {
	s := c.g.Cache.Semantic
	if s == nil || !q.control.Looks() || c.localOnly && !s.Embedder.IsLocal() {
		return false
	}
	p, ok := c.phrase(plan, q)
	if !ok {
		return false
	}
	q.phrase = p
	index := &c.g.Cache.Shared.Index
	if m, ok := index.Known(p.Frame, p.Answer); ok && m.Similarity >= s.Threshold && c.hitSimilar(q, m, f) {
		return true
	}
	waiting, any := index.Waiting(p.Frame, atOnce-1)
	if !any || !c.learn(ctx, p, waiting) {
		return false // the first of its frame waits for the second one to need its vector
	}
	found, nearest := index.Find(p, s.Threshold)
	c.rec.Similarity = nearest
	for _, m := range found {
		if c.hitSimilar(q, m, f) {
			return true
		}
	}
	return false
}

// phrase is the wording of a chat's last message, and the frame of what must be the same: everything else, and of the wording
// what an answer hangs on.
func (c *call) phrase(plan *router.Plan, q *question) (*caching.Phrase, bool) {
	if c.task.endpoint.Name != "chat" {
		return nil, false
	}
	text, around, ok := c.head.Question()
	if !ok || len(text) > maxQuestion {
		return nil, false
	}
	outline := guard.Outline(text)
	if outline == "" {
		return nil, false
	}
	canon := canons.Get().(*wire.Canon)
	defer canons.Put(canon)
	form, err := canon.Object(&c.head.Object, notInFrame)
	if err != nil {
		return nil, false
	}
	s := c.g.Cache.Semantic
	hash := c.scope(plan)
	hash.Field("outline", outline)
	hash.Field("embedder", s.Embedder.Name+"/"+s.Model)
	hash.Field("configuration", s.Embedder.Fingerprint)
	hash.Bytes("body", form)
	if form, err = canon.Value(around); err != nil {
		return nil, false
	}
	hash.Bytes("messages", form)
	return &caching.Phrase{Frame: hash.Key(), Text: text, Answer: q.places[0]}, true
}

func notInFrame(key []byte) bool { return string(key) == "messages" || wire.ChangesNothing(key) }

// hitSimilar gives an answer that the index found, if it is still kept and this client can be given it. Whoever follows the
// flight hears of it first: this client may be slow.
func (c *call) hitSimilar(q *question, m caching.Match, f *caching.Flight) bool {
	e, _ := c.g.Cache.Shared.Lookup(c.r.Context(), c.g.Cache.Store, c.rec.Model, []caching.Key{m.Answer}, c.wanted(), &q.control)
	if e == nil {
		return false
	}
	shown, ok := c.inForm(e, c.wanted())
	if !ok {
		return false
	}
	if p := q.phrase; p != nil && p.Vector != nil { // found just now: who asks so again need not wait for the embedder
		c.g.Cache.Shared.Index.Put(caching.Phrase{Frame: p.Frame, Answer: p.Answer, Like: &m}, c.rec.Model, e.TTL-e.Age(time.Now()), c.g.Cache.Semantic.MaxEntries)
	}
	if f != nil {
		f.Refer(m)
	}
	c.rec.Similarity = m.Similarity
	c.w.Header()["X-Llm-Cache-Similarity"] = []string{strconv.FormatFloat(m.Similarity, 'f', 3, 64)}
	c.given(shown, cacheSemantic)
	c.play(shown)
	if shown != e {
		c.g.Cache.Shared.Also(c.rec.Model, m.Answer, shown)
	}
	return true
}

// referred answers whoever followed a flight that was not made, because there is an answer to a question like theirs.
func (c *call) referred(f *caching.Flight, q *question) bool {
	m, ok := f.Referred()
	return ok && c.hitSimilar(q, m, nil)
}

// remember puts the question of an answer that is now kept into the index.
func (c *call) remember(q *question) {
	if q.phrase != nil {
		c.g.Cache.Shared.Index.Put(*q.phrase, c.rec.Model, q.keep, c.g.Cache.Semantic.MaxEntries)
	}
}
