// Package answercache is the response cache: middleware around delivery. For each request it looks for a stored answer,
// follows an identical request that is in progress, or leads: it has the answer generated and stores it. Embeddings are
// stored by item.
//
// It decides which answers are stored and which clients share them. It never chooses a target and makes no attempts. It
// stands above exchange and beside delivery, which it knows only as a function.
package answercache

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Cache is a configured response cache.
type Cache struct {
	// Shared is the part that survives a reload.
	Shared *caching.Cache
	// Store holds the answers: Shared.Memory, or a store that several gateways share.
	Store caching.Store
	// Name separates caches that use the same store.
	Name string
	// TTL is how long an answer is stored, and MaxTTL the longest time that a client may ask for.
	TTL, MaxTTL time.Duration
	// MaxEntry is the maximum size in bytes of a stored answer. MaxSize is that of all answers in memory, and also that of all
	// answers that are being recorded.
	MaxEntry, MaxSize int64
	// Memory, if it is set, must also hold the answers that are being recorded.
	Memory *memory.Account
	// SiteScope lets all clients of a site share answers. Otherwise only clients with the same key share them.
	SiteScope bool
	// DeterministicOnly stores only answers that do not depend on chance.
	DeterministicOnly bool
	// KeepCut also stores answers that were cut at max_tokens.
	KeepCut bool
	// Endpoints are the names of the endpoints whose answers are stored.
	Endpoints map[string]bool
	// Vary are further request headers on which answers depend, in canonical form.
	Vary []string
}

// A Deliver gets the answer to a request and sends it to a client. If nothing was committed, it returns the error to send
// instead.
type Deliver func(ctx context.Context, x *exchange.Exchange, planned *exchange.PlannedRequest, to exchange.Client) *openai.Error

// The values of X-LLM-Cache and of the record.
const (
	hit       = "hit"
	miss      = "miss"
	coalesced = "coalesced"
	bypass    = "bypass"
)

// Wrap returns a Deliver that uses the cache and calls next for what it does not have. Upstreams returns the configured
// upstream of a target's route, whose configuration is a part of the key.
func (c *Cache) Wrap(next Deliver, upstreams func(*router.Upstream) *upstream.Upstream) Deliver {
	return func(ctx context.Context, x *exchange.Exchange, planned *exchange.PlannedRequest, to exchange.Client) *openai.Error {
		l := &lookup{Cache: c, ctx: ctx, x: x, planned: planned, to: to, next: next, upstreams: upstreams}
		return l.serve()
	}
}

type (
	leader   = coalesce.Leader[caching.Key, caching.Head]
	follower = coalesce.Follower[caching.Key, caching.Head]
)

// A lookup serves one request with the cache.
type lookup struct {
	*Cache
	ctx       context.Context // the client's
	x         *exchange.Exchange
	planned   *exchange.PlannedRequest
	to        exchange.Client
	next      Deliver
	upstreams func(*router.Upstream) *upstream.Upstream
}

// serve answers a request, past the cache if it cannot be cached.
func (l *lookup) serve() *openai.Error {
	r := l.x.Request
	control, err := caching.ParseControl(r.Header["Cache-Control"], r.Header.Get("X-Llm-Cache-Ttl"))
	if err != nil {
		return exchange.BadRequest("X-LLM-Cache-TTL: " + err.Error() + ".")
	}
	if q, ok := l.query(control); ok {
		return l.answer(q)
	}
	l.announce(bypass)
	if control.OnlyIfCached {
		return notCached()
	}
	return l.next(l.ctx, l.x, l.planned, l.to)
}

// answer looks for a stored answer, follows a request in progress, or leads.
func (l *lookup) answer(q *query) *openai.Error {
	leaders := &l.Shared.Leaders
	closed := leaders.ClosedCount()
	if done, err := l.serveStored(l.ctx, q, nil); done {
		return err
	}
	if q.control.OnlyIfCached {
		l.announce(miss)
		return notCached()
	}
	if q.ttl == 0 {
		l.announce(miss)
		return l.generate(l.ctx, q, l.planned, l.to)
	}
	for range 2 { // a request whose leader failed may lead; if that happens twice, it does neither
		f, follower, detached := l.join(q)
		if follower != nil {
			if done, err := l.follow(follower); done {
				return err
			}
			if leaders.ClosedCount() != closed { // the leader may have found a stored answer, and left its followers
				if done, err := l.lookAgain(q, nil); done {
					return err
				}
			}
			continue
		}
		if leaders.ClosedCount() != closed { // an answer may have been stored since the lookup began
			if done, err := l.lookAgain(q, f); done {
				return err
			}
		}
		l.announce(miss)
		return l.lead(f, detached, q)
	}
	l.announce(miss)
	return l.generate(l.ctx, q, l.planned, l.to)
}

// join returns a follower of the request in progress, or a new leader with the context to generate the answer with, which outlives
// the client's if there are followers.
func (l *lookup) join(q *query) (f *leader, r *follower, detached context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.ctx))
	leaders, limits := &l.Shared.Leaders, l.limits(q)
	if !q.control.AllowsStored() {
		return leaders.Private(limits, cancel), nil, ctx
	}
	if f, r = leaders.Join(q.keys[0], limits, cancel); r != nil {
		cancel()
		return nil, r, nil
	}
	return f, nil, ctx
}

// limits returns the limits for what is recorded of an answer.
func (l *lookup) limits(q *query) coalesce.Limits {
	limits := coalesce.Limits{Answer: l.MaxEntry, Total: l.MaxSize}
	if q.batch != nil {
		limits.Answer = maxBatch // MaxEntry is for each item
	}
	if l.Memory != nil {
		limits.Memory = l.Memory
	}
	return limits
}

// lookAgain looks for an answer that was stored during the first lookup. Both lookups together wait for a store no longer
// than one. If lookAgain serves the request, or panics, it ends the new leader, because it will not generate anything.
func (l *lookup) lookAgain(q *query, f *leader) (done bool, err *openai.Error) {
	ctx, cancel := context.WithDeadline(l.ctx, l.x.Record.Started.Add(l.x.Record.ReadTime+caching.GetTimeout))
	defer cancel()
	returned := false
	defer func() {
		if !returned {
			abandon(f)
		}
	}()
	done, err = l.serveStored(ctx, q, f)
	returned = true
	return done, err
}

// abandon ends a leader that will not generate anything.
func abandon(f *leader) {
	if f != nil {
		f.Close() // first, so that its followers look for a stored answer again
		f.Finish(false)
	}
}

// serveStored sends the stored answer, if there is one that this client can get. It abandons the request's leader, if it has
// one, before it sends anything: this client may be slow, and others may be following.
func (l *lookup) serveStored(ctx context.Context, q *query, f *leader) (done bool, err *openai.Error) {
	if !q.control.AllowsStored() {
		return false, nil
	}
	if q.batch != nil {
		return l.serveStoredBatch(ctx, q, f)
	}
	want := l.wantedForm()
	stored, key := l.Shared.Lookup(ctx, l.Store, l.x.Record.Model, q.keys, want, &q.control)
	if stored == nil {
		return false, nil
	}
	e, ok := l.convert(stored, want)
	if !ok {
		return false, nil
	}
	abandon(f)
	err = l.replay(e, hit)
	if e != stored {
		l.Shared.KeepConverted(l.x.Record.Model, key, e)
	}
	return true, err
}

// begin commits the client to an answer that was not generated for it, and records it. Begun reports whether a ping has
// already sent the header of the stream.
func (l *lookup) begin(e *caching.Entry, result string) (begun bool, err *openai.Error) {
	begun, failed := l.to.Commit(l.ctx, e.Form == caching.Events)
	if failed != nil {
		return false, exchange.ErrClientClosed
	}
	now, rec := time.Now(), l.x.Record
	l.count(result)
	rec.Target, rec.Status, rec.Verdict = e.Target, http.StatusOK, router.OK
	rec.FirstContent, rec.HasCost = now.Sub(rec.Started), true // a cost of 0
	rec.SavedInput, rec.SavedOutput = e.Usage.Input, e.Usage.Output
	l.Shared.Counts.SavedTokens.Add(e.Usage.Total())
	h, v := l.to.Header(), &[...]string{result, e.Target, rec.Route, strconv.Itoa(len(rec.Attempts)), ""} // one allocation for all
	h["X-Llm-Cache"], h["X-Llm-Target"], h["X-Llm-Route"], h["X-Llm-Attempts"] = v[0:1:1], v[1:2:2], v[2:3:3], v[3:4:4]
	if result != coalesced {
		v[4] = strconv.FormatInt(int64(e.Age(now)/time.Second), 10)
		h["Age"] = v[4:5:5]
	}
	return begun, nil
}

// end records what was sent of an answer that was not generated for this client.
func (l *lookup) end(m relay.Meter, err error) *openai.Error {
	l.x.Record.Events, l.x.Record.Bytes = m.Events, m.Bytes
	if err != nil {
		return exchange.ErrClientClosed
	}
	return nil
}

// announce sets the response header that says what the cache did, and counts it.
func (l *lookup) announce(result string) {
	l.x.Writer.SetHeader("X-Llm-Cache", result)
	l.count(result)
}

// count records what the cache did.
func (l *lookup) count(result string) {
	l.x.Record.Cache = result
	counts := &l.Shared.Counts
	switch result {
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
		Message: "No stored answer matches this request, and its Cache-Control is only-if-cached. Send it without only-if-cached to have an answer generated."}
}
