package gateway

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// maxBatch bounds an answer with embeddings that is taken apart, in bytes.
const maxBatch = 64 << 20

// A batch is the items of a request for embeddings: each is kept by itself.
type batch struct {
	items   [][]byte // as they stand in the request
	keys    []caching.Key
	entries []*caching.Entry // nil for those that are not known
	kept    bool             // what was not known
	plan    *router.Plan
}

func notInItemKey(key []byte) bool { return string(key) == "input" || wire.ChangesNothing(key) }

// askItems makes the keys: one for each item, and one for all of them together, which only those share who take items of the same age.
func (c *call) askItems(q *question, canon *wire.Canon, plan *router.Plan) bool {
	input, _ := c.head.Get("input")
	items, _, ok := wire.EmbeddingInputs(input)
	if !ok {
		return false
	}
	form, err := canon.Object(&c.head.Object, notInItemKey)
	if err != nil {
		return false
	}
	hash := c.scope(plan)
	hash.Bytes("body", form)
	b := &batch{items: items, keys: make([]caching.Key, len(items)), entries: make([]*caching.Entry, len(items)), plan: plan}
	base := hash.Sum()
	for i, item := range items {
		if form, err = canon.Value(item); err != nil {
			return false
		}
		b.keys[i] = base.With("item", form)
	}
	for i := range b.keys {
		hash.Bytes("all", b.keys[i][:])
	}
	if q.control.HasMaxAge {
		hash.Field("max-age", q.control.MaxAge.String())
	}
	q.batch = b
	q.at(hash.Key())
	return true
}

// partly tells whether something has to be asked for, but less than the request did.
func (b *batch) partly() bool {
	n := len(b.unknown())
	return n > 0 && n < len(b.items)
}

// unknown are the places of the items that are to be asked for, each once.
func (b *batch) unknown() (places []int) {
	seen := make(map[caching.Key]bool, len(b.items))
	for i, e := range b.entries {
		if e == nil && !seen[b.keys[i]] {
			seen[b.keys[i]] = true
			places = append(places, i)
		}
	}
	return places
}

// hitBatch answers if all items are known.
func (c *call) hitBatch(ctx context.Context, q *question, f *caching.Flight) bool {
	b := q.batch
	b.entries = c.g.Cache.Shared.LookupAll(ctx, c.g.Cache.Store, c.rec.Model, b.keys, &q.control)
	b.keepAlike(c.rec.Model)
	if slices.Contains(b.entries, nil) {
		return false
	}
	needless(f)
	whole := b.join(nil)
	oldest := *b.entries[0]
	for _, e := range b.entries {
		if e.Created.Before(oldest.Created) {
			oldest.Created = e.Created
		}
	}
	oldest.Tokens = caching.Tokens{Input: whole.Usage.Input}
	c.given(&oldest, cacheHit)
	c.sent(relay.ReplayWhole(c.w, jsonType, whole.AppendJSON(nil)))
	return true
}

// join puts the answer together from what is known and what was just asked for, which stands for the unknown items in their
// order.
func (b *batch) join(fresh *wire.Embeddings) *wire.Embeddings {
	whole := &wire.Embeddings{Items: make([][]byte, len(b.items)), HasUsage: true}
	if fresh != nil {
		whole.Envelope, whole.Usage, whole.HasUsage = fresh.Envelope, fresh.Usage, fresh.HasUsage
	}
	for i, e := range b.entries {
		if e == nil {
			continue
		}
		envelope := e.Extra[0]
		whole.Items[i] = e.Body[envelope.End:]
		whole.Usage.Input += e.Tokens.Input
		whole.HasUsage = whole.HasUsage && e.Counted
		if whole.Envelope == nil {
			whole.Envelope = e.Body[envelope.Start:envelope.End]
		}
	}
	if fresh == nil {
		return whole
	}
	byKey := map[caching.Key][]byte{}
	for n, i := range b.unknown() {
		byKey[b.keys[i]] = fresh.Items[n]
	}
	for i := range whole.Items {
		if whole.Items[i] == nil {
			whole.Items[i] = byKey[b.keys[i]]
		}
	}
	return whole
}

// keepBatch takes an answer apart that was asked for as it is.
func (c *call) keepBatch(q *question, body []byte) {
	places := make([]int, len(q.batch.items))
	for i := range places {
		places[i] = i
	}
	if fresh, ok := wire.ParseEmbeddings(body, len(places)); ok {
		c.keepItems(q, fresh, places)
	}
}

// keepItems keeps fresh items, which stand at these places of the batch. Each gets its share of the tokens, by its length,
// so that together they cost what they did.
func (c *call) keepItems(q *question, fresh *wire.Embeddings, places []int) {
	total := 0
	for _, i := range places {
		total += len(q.batch.items[i])
	}
	left := fresh.Usage.Input
	items := make([]caching.Item, 0, len(places))
	for n, i := range places {
		share := left
		if size := len(q.batch.items[i]); total > size {
			share = left * int64(size) / int64(total)
		}
		total, left = total-len(q.batch.items[i]), left-share
		e := caching.Entry{
			Form: caching.Part, ContentType: jsonType, Created: time.Now(), TTL: q.keep, Target: c.rec.Target,
			Tokens: caching.Tokens{Input: share}, Counted: fresh.HasUsage,
			// The envelope lies in front; it is wanted once for all.
			Extra: []caching.Span{{Start: 0, End: len(fresh.Envelope)}}, Body: slices.Concat(fresh.Envelope, fresh.Items[n]),
		}
		if int64(len(e.Body)) <= c.g.Cache.MaxEntry {
			items = append(items, caching.Item{Key: q.batch.keys[i], Value: e.Marshal()})
		}
	}
	c.put(q, items)
}

// completeBatch asks for the items that are not known, and puts the answer together.
func (c *call) completeBatch(plan *router.Plan, q *question) {
	b := q.batch
	places := b.unknown()
	missing := make([][]byte, len(places))
	for n, i := range places {
		missing[n] = b.items[i]
	}
	asked := c.head.Body
	var e wire.Edit
	e.Reset(&c.head.Object)
	e.Set("input", wire.JoinArray(missing))
	smaller := e.Body()
	body := bytes.NewBuffer(make([]byte, 0, smaller.Len()))
	_, _ = body.ReadFrom(smaller.Open()) // it lies in memory
	if err := c.head.Parse(body.Bytes()); err != nil {
		c.fail(err)
		return
	}
	w := c.w
	held := &holder{header: w.Header().Clone()}
	c.w = held
	c.deliver(plan)
	c.w = w
	fresh, ok := wire.ParseEmbeddings(held.body.Bytes(), len(places))
	if held.status == http.StatusOK && (!ok || held.cut || !b.goesWith(c.rec.Target, c.rec.Model)) {
		// No shape that can be taken apart, or vectors that do not go with those that are known: the client gets the answer to what it
		// asked.
		c.askAgain(plan, asked)
		return
	}
	held.copyHeader(w.Header())
	if held.status != http.StatusOK {
		held.forward(w)
		return
	}
	c.keepItems(q, fresh, places)
	b.kept = true
	whole := b.join(fresh)
	saved := whole.Usage.Input - fresh.Usage.Input
	c.rec.Spared.Input = saved
	c.g.Cache.Shared.Counts.Saved.Add(saved)
	c.sent(relay.ReplayWhole(w, jsonType, whole.AppendJSON(nil)))
}

// askAgain asks for the whole batch after all. What was asked for in vain was used all the same.
func (c *call) askAgain(plan *router.Plan, asked []byte) {
	if err := c.head.Parse(asked); err != nil {
		c.fail(err)
		return
	}
	used, cost := c.rec.Usage, c.rec.Cost
	c.committed = false
	c.deliver(plan)
	c.rec.Usage.Input += used.Input
	c.rec.Cost += cost
}
