package answercache

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// maxBatch bounds an answer with embeddings that is taken apart, in bytes.
const maxBatch = 64 << 20

// A batch is the items of a request for embeddings: each is stored by itself.
type batch struct {
	items   [][]byte // as they stand in the request
	keys    []caching.Key
	entries []*caching.Entry // nil for those that are not known
	kept    bool             // what was not known is stored
	plan    *router.Plan
}

func notInItemKey(key []byte) bool { return string(key) == "input" || openai.NotInCacheKey(key) }

// splitItems makes the keys: one for each item, and one for all of them together, which only those share who take items of the
// same age.
func (l *lookup) splitItems(q *question, canon *canonjson.Encoder) bool {
	head := l.ask.Body.JSON()
	input, _ := head.Get("input")
	items, ok := openai.EmbeddingInputs(input)
	if !ok {
		return false
	}
	form, err := canon.Object(&head.Object, notInItemKey)
	if err != nil {
		return false
	}
	hash := l.scope()
	hash.Bytes("body", form)
	b := &batch{items: items, keys: make([]caching.Key, len(items)), entries: make([]*caching.Entry, len(items)), plan: l.ask.Plan}
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

// partly reports whether something has to be asked for, but less than the request did.
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

// Vectors of different models cannot be compared, so that one answer must not hold both: what a fallback once embedded does
// not go with what another target did. The targets of one pool are equals, and their vectors are, too.

// keepComparable forgets the known items that do not go with the others: those of later pools.
func (b *batch) keepComparable(model string) {
	first := -1
	for _, e := range b.entries {
		if e != nil {
			if pool := b.plan.PoolOf(e.Target, model); first < 0 || pool < first {
				first = pool
			}
		}
	}
	for i, e := range b.entries {
		if e != nil && b.plan.PoolOf(e.Target, model) != first {
			b.entries[i] = nil
		}
	}
}

// comparable reports whether what a target embedded goes with the known items.
func (b *batch) comparable(target, model string) bool {
	for _, e := range b.entries {
		if e != nil {
			return b.plan.PoolOf(e.Target, model) == b.plan.PoolOf(target, model)
		}
	}
	return true
}

// hitBatch answers if all items are known.
func (l *lookup) hitBatch(ctx context.Context, q *question, f *leader) (done bool, failed *openai.Error) {
	b, model := q.batch, l.x.Record.Model
	b.entries = l.Shared.LookupAll(ctx, l.Store, model, b.keys, &q.control)
	b.keepComparable(model)
	if slices.Contains(b.entries, nil) {
		return false, nil
	}
	abandon(f)
	whole := b.join(nil)
	oldest := *b.entries[0]
	for _, e := range b.entries {
		if e.Created.Before(oldest.Created) {
			oldest.Created = e.Created
		}
	}
	oldest.Tokens = caching.Tokens{Input: whole.Usage.Input}
	if _, failed := l.begin(&oldest, hit); failed != nil {
		return true, failed
	}
	return true, l.sent(relay.ReplayWhole(l.to, jsonType, whole.AppendJSON(nil)))
}

// join puts the answer together from what is known and what was just asked for, which stands for the unknown items in their
// order.
func (b *batch) join(fresh *openai.Embeddings) *openai.Embeddings {
	whole := &openai.Embeddings{Items: make([][]byte, len(b.items)), HasUsage: true}
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
func (l *lookup) keepBatch(q *question, body []byte) {
	places := make([]int, len(q.batch.items))
	for i := range places {
		places[i] = i
	}
	if fresh, ok := openai.ParseEmbeddings(body, len(places)); ok {
		l.keepItems(q, fresh, places)
	}
}

// keepItems stores fresh items, which stand at these places of the batch. Each gets its share of the tokens, by its length, so
// that together they cost what they did.
func (l *lookup) keepItems(q *question, fresh *openai.Embeddings, places []int) {
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
			Form: caching.Part, ContentType: jsonType, Created: time.Now(), TTL: q.keep, Target: l.x.Record.Target,
			Tokens: caching.Tokens{Input: share}, Counted: fresh.HasUsage,
			// The envelope lies in front; it is wanted once for all.
			Extra: []caching.Span{{Start: 0, End: len(fresh.Envelope)}}, Body: slices.Concat(fresh.Envelope, fresh.Items[n]),
		}
		if int64(len(e.Body)) <= l.MaxEntry {
			items = append(items, caching.Item{Key: q.batch.keys[i], Value: e.Marshal()})
		}
	}
	l.put(q, items)
}

// completeBatch asks for the items that are not known, and puts the answer together.
func (l *lookup) completeBatch(ctx context.Context, q *question, ask *exchange.Ask, to exchange.Client) *openai.Error {
	b, rec := q.batch, l.x.Record
	places := b.unknown()
	smaller := *ask
	var failed *openai.Error
	if smaller.Body, failed = l.onlyItems(b, places); failed != nil {
		return failed
	}
	held := &holder{header: http.Header{}}
	if failed = l.next(ctx, l.x, &smaller, held); failed != nil {
		return failed
	}
	fresh, ok := openai.ParseEmbeddings(held.body.Bytes(), len(places))
	if !ok || held.cut || !b.comparable(rec.Target, rec.Model) {
		// No shape that can be taken apart, or vectors that do not go with those that are known: the client gets the answer to
		// what it asked. What was asked for in vain was used all the same.
		used, cost := rec.Usage, rec.Cost
		failed = l.next(ctx, l.x, ask, to)
		rec.Usage.Input += used.Input
		rec.Cost += cost
		return failed
	}
	l.keepItems(q, fresh, places)
	b.kept = true
	whole := b.join(fresh)
	saved := whole.Usage.Input - fresh.Usage.Input
	rec.Spared.Input = saved
	l.Shared.Counts.Saved.Add(saved)
	if _, err := to.Commit(ctx, false); err != nil {
		return exchange.ClientClosed
	}
	held.copyHeader(to.Header())
	return l.sent(relay.ReplayWhole(to, jsonType, whole.AppendJSON(nil)))
}

// onlyItems is the request with the items at these places alone.
func (l *lookup) onlyItems(b *batch, places []int) (*reqbody.Body, *openai.Error) {
	items := make([][]byte, len(places))
	for n, i := range places {
		items[n] = b.items[i]
	}
	var e jsonspan.Edit
	e.Reset(&l.ask.Body.JSON().Object)
	e.Set("input", slices.Concat([]byte{'['}, bytes.Join(items, []byte{','}), []byte{']'}))
	return reqbody.FromJSON(e.Bytes(), l.x.Endpoint)
}

// A holder is a client that keeps an answer in memory, within bounds.
type holder struct {
	header http.Header
	body   bytes.Buffer
	cut    bool
}

var _ exchange.Client = (*holder)(nil)

// Header implements http.ResponseWriter.
func (h *holder) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *holder) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (h *holder) Write(p []byte) (int, error) {
	if h.cut = h.cut || h.body.Len()+len(p) > maxBatch; h.cut {
		return len(p), nil
	}
	return h.body.Write(p)
}

// Flush implements relay.Client.
func (h *holder) Flush() error { return nil }

// Commit implements relay.Client: nobody waits but us.
func (h *holder) Commit(context.Context, bool) (bool, error) { return false, nil }

// ErrorEvent implements relay.Client.
func (h *holder) ErrorEvent(e *openai.Error) []byte { return e.AppendJSON(nil) }

// Ping implements exchange.Client.
func (h *holder) Ping() {}

// LastPing implements exchange.Client.
func (h *holder) LastPing() time.Time { return time.Time{} }

// Busy implements exchange.Client.
func (h *holder) Busy() bool { return false }

// Interrupt implements exchange.Client.
func (h *holder) Interrupt() {}

func (h *holder) copyHeader(to http.Header) {
	for name, values := range h.header {
		if name != "Content-Length" {
			to[name] = values
		}
	}
}
