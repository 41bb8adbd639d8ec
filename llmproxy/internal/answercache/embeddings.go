package answercache

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/canonjson"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// maxBatch is the maximum size in bytes of an answer with embeddings that is split into items.
const maxBatch = 64 << 20

// A batch is the items of a request for embeddings. Each is stored by itself.
type batch struct {
	items   [][]byte // as in the request
	keys    []caching.Key
	entries []*caching.Entry // the stored items; nil for a missing one
	stored  bool             // the missing items were generated and stored
	plan    *router.Plan
}

func notInItemKey(key []byte) bool { return string(key) == "input" || openai.NotInCacheKey(key) }

// queryItems sets the keys of a request for embeddings: one for each item, and one for the batch, under which requests are
// coalesced. The latter depends on max-age, because a request that accepts only recent items must not follow one that accepts
// old ones. It returns false if the request cannot be split into items.
func (l *lookup) queryItems(q *query, encoder *canonjson.Encoder) bool {
	head := l.planned.Body.JSON()
	input, _ := head.Get("input")
	items, ok := openai.EmbeddingInputs(input)
	if !ok {
		return false
	}
	body, err := encoder.Object(&head.Object, notInItemKey)
	if err != nil {
		return false
	}
	hash := l.scopeHash()
	hash.Bytes("body", body)
	b := &batch{items: items, keys: make([]caching.Key, len(items)), entries: make([]*caching.Entry, len(items)), plan: l.planned.Plan}
	base := hash.Sum()
	for i, item := range items {
		canonical, err := encoder.Value(item)
		if err != nil {
			return false
		}
		b.keys[i] = base.With("item", canonical)
	}
	for i := range b.keys {
		hash.Bytes("all", b.keys[i][:])
	}
	if q.control.HasMaxAge {
		hash.Field("max-age", q.control.MaxAge.String())
	}
	q.batch = b
	q.setKeys(hash.Key())
	return true
}

// partlyStored reports whether the upstream has to be asked for some items, but for fewer than the request has.
func (b *batch) partlyStored() bool {
	n := len(b.missing())
	return n > 0 && n < len(b.items)
}

// missing returns the indices of the items to ask the upstream for. Of identical items it returns the first. It is not inlined, because its
// map would be on the stack of every stream that is recorded.
//
//go:noinline
func (b *batch) missing() (indices []int) {
	seen := make(map[caching.Key]bool, len(b.items))
	for i, e := range b.entries {
		if e == nil && !seen[b.keys[i]] {
			seen[b.keys[i]] = true
			indices = append(indices, i)
		}
	}
	return indices
}

// The vectors of different models cannot be compared, so one answer must not contain both: an item that a fallback embedded
// must not be combined with items of another target. The targets of one pool are equals, and so are their vectors.

// dropIncomparable drops the stored items that cannot be combined with those of the first pool.
func (b *batch) dropIncomparable(model string) {
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

// comparable reports whether the vectors of a target can be combined with the stored items.
func (b *batch) comparable(target, model string) bool {
	for _, e := range b.entries {
		if e != nil {
			return b.plan.PoolOf(e.Target, model) == b.plan.PoolOf(target, model)
		}
	}
	return true
}

// serveStoredBatch sends the answer if all items are stored.
func (l *lookup) serveStoredBatch(ctx context.Context, q *query, f *leader) (done bool, failed *openai.Error) {
	b, model := q.batch, l.x.Record.Model
	b.entries = l.Shared.LookupAll(ctx, l.Store, model, b.keys, &q.control)
	b.dropIncomparable(model)
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
	oldest.Usage = tokens.Usage{Input: whole.Usage.Input}
	if _, failed := l.begin(&oldest, hit); failed != nil {
		return true, failed
	}
	return true, l.end(relay.ReplayWhole(l.to, jsonType, whole.AppendJSON(nil)))
}

// join joins the stored items and the generated ones, which are in the order of missing, and may be nil.
func (b *batch) join(generated *openai.Embeddings) *openai.Embeddings {
	whole := &openai.Embeddings{Items: make([][]byte, len(b.items)), HasUsage: true}
	if generated != nil {
		whole.Envelope, whole.Usage, whole.HasUsage = generated.Envelope, generated.Usage, generated.HasUsage
	}
	for i, e := range b.entries {
		if e == nil {
			continue
		}
		envelope := e.Extra[0]
		whole.Items[i] = e.Body[envelope.End:]
		whole.Usage.Input += e.Usage.Input
		whole.HasUsage = whole.HasUsage && e.HasUsage
		if whole.Envelope == nil {
			whole.Envelope = e.Body[envelope.Start:envelope.End]
		}
	}
	if generated == nil {
		return whole
	}
	byKey := map[caching.Key][]byte{}
	for n, i := range b.missing() {
		byKey[b.keys[i]] = generated.Items[n]
	}
	for i := range whole.Items {
		if whole.Items[i] == nil {
			whole.Items[i] = byKey[b.keys[i]]
		}
	}
	return whole
}

// storeBatch stores the items of an answer to the whole batch.
func (l *lookup) storeBatch(q *query, body []byte) {
	indices := make([]int, len(q.batch.items))
	for i := range indices {
		indices[i] = i
	}
	if generated, ok := openai.ParseEmbeddings(body, len(indices)); ok {
		l.storeItems(q, generated, indices)
	}
}

// storeItems stores generated items, whose indices in the batch are given. Each gets a share of the tokens in proportion to
// its length, so that the shares add up to what was used.
func (l *lookup) storeItems(q *query, generated *openai.Embeddings, indices []int) {
	total := 0
	for _, i := range indices {
		total += len(q.batch.items[i])
	}
	left := generated.Usage.Input
	items := make([]caching.Item, 0, len(indices))
	for n, i := range indices {
		share := left
		if size := len(q.batch.items[i]); total > size {
			share = left * int64(size) / int64(total)
		}
		total, left = total-len(q.batch.items[i]), left-share
		e := caching.Entry{
			Form: caching.Part, ContentType: jsonType, Created: time.Now(), TTL: q.ttl, Target: l.x.Record.Target,
			Usage: tokens.Usage{Input: share}, HasUsage: generated.HasUsage,
			// The envelope comes first. An answer needs it only once.
			Extra: []caching.Span{{Start: 0, End: len(generated.Envelope)}}, Body: slices.Concat(generated.Envelope, generated.Items[n]),
		}
		if int64(len(e.Body)) <= l.MaxEntry {
			items = append(items, caching.Item{Key: q.batch.keys[i], Value: e.Marshal()})
		}
	}
	l.put(q, items)
}

// completeBatch asks the upstream for the missing items and sends all of them.
func (l *lookup) completeBatch(ctx context.Context, q *query, planned *exchange.PlannedRequest, to exchange.Client) *openai.Error {
	b, rec := q.batch, l.x.Record
	missing := b.missing()
	smaller := *planned
	var failed *openai.Error
	if smaller.Body, failed = l.onlyItems(b, missing); failed != nil {
		return failed
	}
	buffer := &responseBuffer{header: http.Header{}, leaders: &l.Shared.Leaders, limits: l.limits(q)}
	defer buffer.release()
	if !buffer.reserve(b.expectedSize(len(missing))) { // there is no memory in which the answer could be joined
		return l.next(ctx, l.x, planned, to)
	}
	if failed = l.next(ctx, l.x, &smaller, buffer); failed != nil {
		return failed
	}
	generated, ok := openai.ParseEmbeddings(buffer.body.Bytes(), len(missing))
	if !ok || buffer.overflowed || !b.comparable(rec.Target, rec.Model) {
		// The answer cannot be split, or its vectors cannot be combined with the stored ones. The upstream is asked for the
		// whole batch, and what the first answer used counts as well.
		used, cost := rec.Usage, rec.Cost
		failed = l.next(ctx, l.x, planned, to)
		rec.Usage.Input += used.Input
		rec.Cost += cost
		return failed
	}
	l.storeItems(q, generated, missing)
	b.stored = true
	whole := b.join(generated)
	saved := whole.Usage.Input - generated.Usage.Input
	rec.SavedInput = saved
	l.Shared.Counts.SavedTokens.Add(saved)
	if _, err := to.Commit(ctx, false); err != nil {
		return exchange.ErrClientClosed
	}
	buffer.copyHeader(to.Header())
	return l.end(relay.ReplayWhole(to, jsonType, whole.AppendJSON(nil)))
}

// expectedSize returns the size of an answer with n items, as far as the stored items show it.
func (b *batch) expectedSize(n int) int {
	const envelope = 4 << 10
	largest := 0
	for _, e := range b.entries {
		if e != nil {
			largest = max(largest, len(e.Body))
		}
	}
	return envelope + n*(largest+largest/4)
}

// onlyItems returns the request with some of its items only.
func (l *lookup) onlyItems(b *batch, indices []int) (*reqbody.Body, *openai.Error) {
	items := make([][]byte, len(indices))
	for n, i := range indices {
		items[n] = b.items[i]
	}
	var e jsonspan.Edit
	e.Reset(&l.planned.Body.JSON().Object)
	e.Set("input", slices.Concat([]byte{'['}, bytes.Join(items, []byte{','}), []byte{']'}))
	return reqbody.FromJSON(e.Bytes(), l.x.Endpoint)
}

// A responseBuffer is a client that keeps an answer in memory, within the limits for answers that are being recorded.
type responseBuffer struct {
	header     http.Header
	leaders    *coalesce.Group[caching.Key, caching.Head]
	limits     coalesce.Limits
	body       bytes.Buffer
	reserved   int
	overflowed bool
}

// reserve makes room for n more bytes. It returns false if they exceed a limit.
func (b *responseBuffer) reserve(n int) bool {
	needed := b.body.Len() + n
	if needed <= b.reserved {
		return true
	}
	needed = max(needed, min(2*b.body.Len(), int(b.limits.Answer)))
	if int64(needed) > b.limits.Answer || !b.leaders.Reserve(int64(needed-b.reserved), b.limits) {
		return false
	}
	b.reserved = needed
	b.body.Grow(needed - b.body.Len())
	return true
}

func (b *responseBuffer) release() { b.leaders.Release(int64(b.reserved), b.limits) }

var _ exchange.Client = (*responseBuffer)(nil)

// Header implements http.ResponseWriter.
func (b *responseBuffer) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *responseBuffer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (b *responseBuffer) Write(p []byte) (int, error) {
	if b.overflowed = b.overflowed || !b.reserve(len(p)); b.overflowed {
		return len(p), nil
	}
	return b.body.Write(p)
}

// Flush implements relay.Client.
func (b *responseBuffer) Flush() error { return nil }

// Commit implements relay.Client. It commits nothing: the client has not got anything yet.
func (b *responseBuffer) Commit(context.Context, bool) (bool, error) { return false, nil }

// ErrorEvent implements relay.Client.
func (b *responseBuffer) ErrorEvent(e *openai.Error, _ openai.ResponseState) []byte {
	return e.AppendJSON(nil)
}

// Ping implements exchange.Client.
func (b *responseBuffer) Ping() {}

// Comment implements exchange.Client.
func (b *responseBuffer) Comment(string) {}

// LastSent implements exchange.Client.
func (b *responseBuffer) LastSent() time.Time { return time.Time{} }

// Busy implements exchange.Client.
func (b *responseBuffer) Busy() bool { return false }

// Interrupt implements exchange.Client.
func (b *responseBuffer) Interrupt() {}

func (b *responseBuffer) copyHeader(to http.Header) {
	for name, values := range b.header {
		if name != "Content-Length" {
			to[name] = values
		}
	}
}
