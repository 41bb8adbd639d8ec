package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// replay answers with what was answered to the same question before, or is being answered now; else it delivers, and sees
// to it that the answer is kept.
func (c *call) replay(plan *router.Plan) {
	control, err := caching.ParseControl(c.r.Header["Cache-Control"], c.r.Header.Get("X-Llm-Cache-Ttl"))
	if err != nil {
		c.fail(badRequest("X-LLM-Cache-TTL: " + err.Error() + "."))
		return
	}
	q, ok := c.question(plan, control)
	switch {
	case ok:
		c.exact(plan, q)
	case control.OnlyIfCached:
		c.mark(cacheBypass)
		c.fail(notCached())
	default:
		c.mark(cacheBypass)
		c.deliver(plan)
	}
}

// exact looks for the answer, reads along with one that is under way, or leads the way.
func (c *call) exact(plan *router.Plan, q *question) {
	flights := &c.g.Cache.Shared.Flights
	landed := flights.Landed()
	if c.hit(c.r.Context(), q, nil) {
		return
	}
	if q.control.OnlyIfCached {
		if c.similar(c.r.Context(), plan, q, nil) {
			return
		}
		c.mark(cacheMiss)
		c.fail(notCached())
		return
	}
	if q.keep == 0 || flights.Pending() > c.g.Cache.MaxSize {
		c.mark(cacheMiss)
		c.ask(plan, q)
		return
	}
	for range 2 { // who followed one that failed may lead; who did so twice goes alone
		f, follows := c.join(q)
		if follows {
			if c.follow(f) || c.referred(f, q) {
				return
			}
			continue
		}
		if !c.found(f, landed, plan, q) {
			c.mark(cacheMiss)
			c.lead(f, plan, q)
		}
		return
	}
	c.mark(cacheMiss)
	c.ask(plan, q)
}

// found gives an answer that makes a flight needless: one that came while this request looked for it, or one to a question that
// reads like it. Whatever happens here, nobody follows a flight that nobody makes.
func (c *call) found(f *caching.Flight, landed uint64, plan *router.Plan, q *question) (ok bool) {
	returned := false
	defer func() {
		if !returned { // a panic
			needless(f)
		}
	}()
	ok = c.g.Cache.Shared.Flights.Landed() != landed && c.came(q, f) || c.similar(c.detached, plan, q, f)
	returned = true
	return ok
}

// came gives the answer if it came while this request looked for it. Both times together it waits no longer for a store than once.
func (c *call) came(q *question, f *caching.Flight) bool {
	ctx, cancel := context.WithDeadline(c.r.Context(), c.rec.Started.Add(c.rec.Reading+caching.LongestWait))
	defer cancel()
	return c.hit(ctx, q, f)
}

// hit gives the answer that is kept, if there is one that this client can be given. A flight that was begun for it is over then,
// before this client gets anything: it may be slow, and others may follow.
func (c *call) hit(ctx context.Context, q *question, f *caching.Flight) bool {
	if !q.control.Looks() {
		return false
	}
	if q.batch != nil {
		return c.hitBatch(ctx, q, f)
	}
	want := c.wanted()
	e, key := c.g.Cache.Shared.Lookup(ctx, c.g.Cache.Store, c.rec.Model, q.places, want, &q.control)
	if e == nil {
		return false
	}
	shown, ok := c.inForm(e, want)
	if !ok {
		return false
	}
	needless(f)
	c.given(shown, cacheHit)
	c.play(shown)
	if shown != e {
		c.g.Cache.Shared.Also(c.rec.Model, key, shown)
	}
	return true
}

// needless ends a flight that was not made.
func needless(f *caching.Flight) {
	if f != nil {
		f.Land(false)
		f.Close()
	}
}

// given notes and announces an answer that nobody generated for this client.
func (c *call) given(e *caching.Entry, how string) {
	now := time.Now()
	c.count(how)
	c.rec.Target, c.rec.Status, c.rec.Verdict, c.committed = e.Target, http.StatusOK, router.OK, true
	c.rec.FirstContent, c.rec.HasCost = now.Sub(c.rec.Started), true // it costs nothing
	c.rec.Spared = wire.Usage{Input: e.Tokens.Input, Output: e.Tokens.Output, Cached: e.Tokens.Cached, Reasoning: e.Tokens.Reasoning}
	c.g.Cache.Shared.Counts.Saved.Add(e.Tokens.Input + e.Tokens.Output)
	h, v := c.w.Header(), &[...]string{how, e.Target, c.rec.Route, strconv.Itoa(len(c.rec.Attempts)), ""} // one allocation for all
	h["X-Llm-Cache"], h["X-Llm-Target"], h["X-Llm-Route"], h["X-Llm-Attempts"] = v[0:1:1], v[1:2:2], v[2:3:3], v[3:4:4]
	if how != cacheCoalesced {
		v[4] = strconv.FormatInt(int64(e.Age(now)/time.Second), 10)
		h["Age"] = v[4:5:5]
	}
	c.announceQueue()
}

// wanted is the form in which this client wants its answer.
func (c *call) wanted() caching.Form {
	if c.rec.Stream && c.task.endpoint.Streams() {
		return caching.Events
	}
	return caching.Whole
}

// inForm brings an entry into the form that is wanted; false if that cannot be done.
func (c *call) inForm(e *caching.Entry, want caching.Form) (*caching.Entry, bool) {
	switch {
	case e.Form == want:
		return e, true
	case want == caching.Events:
		return split(e)
	}
	return c.assemble(e)
}

// play sends an entry.
func (c *call) play(e *caching.Entry) {
	if e.Form == caching.Whole {
		c.sent(relay.ReplayWhole(c.w, e.ContentType, e.Body))
		return
	}
	var room [4][]byte
	pieces := room[:0]
	e.Pieces(c.head.IncludeUsage, func(piece []byte) { pieces = append(pieces, piece) })
	c.sent(relay.ReplayStream(c.w, c.begunStream(e.ContentType), pieces))
}

// sent notes how an answer that is not an attempt's reached the client.
func (c *call) sent(m relay.Meter, err error) {
	c.rec.Events, c.rec.Bytes = m.Events, m.Bytes
	if err != nil {
		c.gone()
	}
}

const (
	eventType = "text/event-stream; charset=utf-8"
	jsonType  = "application/json"
)

// split makes a stream of a whole answer.
func split(e *caching.Entry) (*caching.Entry, bool) {
	stream := *e
	stream.Form, stream.ContentType, stream.Body = caching.Events, eventType, make([]byte, 0, 2*len(e.Body))
	ok := wire.Split(e.Body, func(data []byte, usage bool) {
		start := len(stream.Body)
		stream.Body = sse.AppendData(stream.Body, data)
		if usage {
			stream.Extra = append(stream.Extra, caching.Span{Start: start, End: len(stream.Body)})
		}
	})
	stream.Body = sse.AppendData(stream.Body, []byte("[DONE]"))
	return &stream, ok
}

// assemble makes a whole answer of a stream.
func (c *call) assemble(e *caching.Entry) (*caching.Entry, bool) {
	whole := *e
	whole.Form, whole.ContentType, whole.Body, whole.Extra = caching.Whole, jsonType, nil, nil
	var parts wire.Assembly
	typed := c.task.endpoint.Framing == wire.Typed
	for rest := e.Body; len(rest) > 0; {
		var raw []byte
		raw, rest = sse.Split(rest)
		event := sse.Parse(raw)
		switch {
		case !event.HasData:
		case !typed:
			parts.Add(event.Data)
		default:
			if response, ok := wire.CompletedResponse(event.Name, event.Data); ok {
				whole.Body = response
			}
		}
	}
	if typed {
		return &whole, whole.Body != nil
	}
	var ok bool
	whole.Body, ok = parts.Whole()
	return &whole, ok
}
