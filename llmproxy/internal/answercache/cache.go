// Package answercache is the response cache as middleware around delivery: it looks an answer up, follows an identical
// request that is under way, or leads one and stores its answer. Embeddings are cached by item.
//
// It decides what may be stored and who shares it; it never chooses a target and makes no attempts of its own. It stands
// above exchange, beside delivery, which it knows only as a function.
package answercache

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Cache is the rules by which answers are stored and given again.
type Cache struct {
	// Shared is what outlives a configuration.
	Shared *caching.Cache
	// Store keeps the answers: Shared.Memory, or one that other gateways share.
	Store caching.Store
	// Name keeps caches apart that share a store.
	Name string
	// TTL is how long an answer is stored, MaxTTL the longest that a client may ask for.
	TTL, MaxTTL time.Duration
	// MaxEntry bounds an answer that is stored, MaxSize all of them in memory, and also all that are being recorded; in bytes.
	MaxEntry, MaxSize int64
	// Everybody lets all clients of a site share answers; otherwise only those with the same key do.
	Everybody bool
	// Deterministic stores only answers of temperature 0.
	Deterministic bool
	// Length stores answers, too, that were cut at max_tokens.
	Length bool
	// Endpoints are the names of those whose answers are stored.
	Endpoints map[string]bool
	// Vary are further request headers on which answers depend, in their canonical spelling.
	Vary []string
}

// A Deliver gets an answer for a request and sends it to a client. The error is what the client is to be told, if nothing was
// committed.
type Deliver func(ctx context.Context, x *exchange.Exchange, ask *exchange.Ask, to exchange.Client) *openai.Error

// What X-LLM-Cache and the record say.
const (
	hit       = "hit"
	miss      = "miss"
	coalesced = "coalesced"
	bypass    = "bypass"
)

// Wrap puts the cache in front of next. Upstreams returns the upstream that the router knows as a target's: what it is
// configured to be is a part of the key.
func (c *Cache) Wrap(next Deliver, upstreams func(*router.Upstream) *upstream.Upstream) Deliver {
	return func(ctx context.Context, x *exchange.Exchange, ask *exchange.Ask, to exchange.Client) *openai.Error {
		l := &lookup{Cache: c, ctx: ctx, x: x, ask: ask, to: to, next: next, upstreams: upstreams}
		return l.answer()
	}
}

// A leader records an answer that followers share.
type (
	leader   = coalesce.Leader[caching.Key, caching.Head]
	follower = coalesce.Follower[caching.Key, caching.Head]
)

// A lookup is one request at the cache.
type lookup struct {
	*Cache
	ctx       context.Context // the client's
	x         *exchange.Exchange
	ask       *exchange.Ask
	to        exchange.Client
	next      Deliver
	upstreams func(*router.Upstream) *upstream.Upstream
}

// answer looks the answer up, follows one that is under way, or has it generated and stored.
func (l *lookup) answer() *openai.Error {
	r := l.x.Request
	control, err := caching.ParseControl(r.Header["Cache-Control"], r.Header.Get("X-Llm-Cache-Ttl"))
	if err != nil {
		return exchange.BadRequest("X-LLM-Cache-TTL: " + err.Error() + ".")
	}
	q, ok := l.question(control)
	switch {
	case ok:
		return l.exact(q)
	case control.OnlyIfCached:
		l.mark(bypass)
		return notCached()
	}
	l.mark(bypass)
	return l.next(l.ctx, l.x, l.ask, l.to)
}

// exact looks the answer up, follows one that is under way, or leads.
func (l *lookup) exact(q *question) *openai.Error {
	leaders := &l.Shared.Leaders
	finished := leaders.Finished()
	if done, err := l.hit(l.ctx, q, nil); done {
		return err
	}
	if q.control.OnlyIfCached {
		l.mark(miss)
		return notCached()
	}
	if q.keep == 0 || leaders.Pending() > l.MaxSize {
		l.mark(miss)
		return l.generate(l.ctx, q, l.ask, l.to)
	}
	for range 2 { // who followed a leader that failed may lead; who did so twice goes alone
		f, detached := l.join(q)
		if detached == nil {
			if done, err := l.follow(f); done {
				return err
			}
			continue
		}
		if leaders.Finished() != finished { // one came while this request looked for it
			if done, err := l.came(q, f); done {
				return err
			}
		}
		l.mark(miss)
		return l.lead(f, detached, q)
	}
	l.mark(miss)
	return l.generate(l.ctx, q, l.ask, l.to)
}

// join finds the leader of a question, to follow it, or leads. Who leads gets a context that lasts as long as anybody wants the
// answer: followers may want it longer than the client that asked first.
func (l *lookup) join(q *question) (f *leader, detached context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	leaders, limit := &l.Shared.Leaders, l.MaxEntry
	if q.batch != nil {
		limit = maxBatch // max_entry bounds each item
	}
	if !q.control.Looks() {
		return leaders.Private(limit, cancel), ctx
	}
	f, leads := leaders.Join(q.places[0], limit, cancel)
	if !leads {
		cancel()
		return f, nil
	}
	return f, ctx
}

// came gives the answer if it came while this request looked for it. Both times together it waits no longer for a store than
// once. Whatever happens here, nobody follows a leader that never generates.
func (l *lookup) came(q *question, f *leader) (done bool, err *openai.Error) {
	ctx, cancel := context.WithDeadline(l.ctx, l.x.Record.Started.Add(l.x.Record.Reading+caching.LongestWait))
	defer cancel()
	returned := false
	defer func() {
		if !returned { // a panic
			abandon(f)
		}
	}()
	done, err = l.hit(ctx, q, f)
	returned = true
	return done, err
}

// abandon ends a leader that has nothing to generate.
func abandon(f *leader) {
	if f != nil {
		f.Finish(false)
		f.Close()
	}
}

// hit gives the stored answer, if there is one that this client can be given. A leader that was begun for it is over then,
// before this client gets anything: it may be slow, and others may follow.
func (l *lookup) hit(ctx context.Context, q *question, f *leader) (done bool, err *openai.Error) {
	if !q.control.Looks() {
		return false, nil
	}
	if q.batch != nil {
		return l.hitBatch(ctx, q, f)
	}
	want := l.wanted()
	e, key := l.Shared.Lookup(ctx, l.Store, l.x.Record.Model, q.places, want, &q.control)
	if e == nil {
		return false, nil
	}
	shown, ok := l.inForm(e, want)
	if !ok {
		return false, nil
	}
	abandon(f)
	err = l.play(shown, hit)
	if shown != e {
		l.Shared.Also(l.x.Record.Model, key, shown)
	}
	return true, err
}

// begin commits the client to an answer that was not generated for it, records it, and sets its headers. Begun reports whether
// a ping has sent the header of the stream.
func (l *lookup) begin(e *caching.Entry, how string) (begun bool, err *openai.Error) {
	begun, failed := l.to.Commit(l.ctx, e.Form == caching.Events)
	if failed != nil {
		return false, exchange.ClientClosed
	}
	now, rec := time.Now(), l.x.Record
	l.count(how)
	rec.Target, rec.Status, rec.Verdict = e.Target, http.StatusOK, router.OK
	rec.FirstContent, rec.HasCost = now.Sub(rec.Started), true // it costs nothing
	rec.Spared = openai.Usage{Input: e.Tokens.Input, Output: e.Tokens.Output, Cached: e.Tokens.Cached, Reasoning: e.Tokens.Reasoning}
	l.Shared.Counts.Saved.Add(e.Tokens.Input + e.Tokens.Output)
	h, v := l.to.Header(), &[...]string{how, e.Target, rec.Route, strconv.Itoa(len(rec.Attempts)), ""} // one allocation for all
	h["X-Llm-Cache"], h["X-Llm-Target"], h["X-Llm-Route"], h["X-Llm-Attempts"] = v[0:1:1], v[1:2:2], v[2:3:3], v[3:4:4]
	if how != coalesced {
		v[4] = strconv.FormatInt(int64(e.Age(now)/time.Second), 10)
		h["Age"] = v[4:5:5]
	}
	return begun, nil
}

// sent records how an answer that is not an attempt's reached the client.
func (l *lookup) sent(m relay.Meter, err error) *openai.Error {
	l.x.Record.Events, l.x.Record.Bytes = m.Events, m.Bytes
	if err != nil {
		return exchange.ClientClosed
	}
	return nil
}

// mark tells the client what the cache did.
func (l *lookup) mark(how string) {
	l.x.Writer.SetHeader("X-Llm-Cache", how)
	l.count(how)
}

// count tells the record and the statistics what the cache did.
func (l *lookup) count(how string) {
	l.x.Record.Cache = how
	counts := &l.Shared.Counts
	switch how {
	case hit:
		counts.Hits.Add(1)
	case miss:
		counts.Misses.Add(1)
	case coalesced:
		counts.Coalesced.Add(1)
	case bypass:
		counts.Bypassed.Add(1)
	}
}

func notCached() *openai.Error {
	return &openai.Error{Status: http.StatusGatewayTimeout, Type: exchange.InvalidRequest, Code: "not_cached",
		Message: "No answer to this request is cached, and its Cache-Control says only-if-cached. Send it without that to have one generated."}
}
