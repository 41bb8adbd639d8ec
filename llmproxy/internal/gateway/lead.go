package gateway

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// join finds the flight of a question, to follow or to lead. Who leads has it in c.flight.
func (c *call) join(q *question) (f *caching.Flight, follows bool) {
	// Not the client's: those who follow may want the answer longer than he who asked first.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.r.Context()))
	flights, limit := &c.g.Cache.Shared.Flights, c.g.Cache.MaxEntry
	if q.batch != nil {
		limit = maxBatch // max_entry bounds each item
	}
	if q.control.Looks() {
		f, leads := flights.Join(q.places[0], limit, cancel)
		if !leads {
			cancel()
			return f, true
		}
		c.detached = ctx
		return f, false
	}
	c.detached = ctx
	return flights.Private(limit, cancel), false
}

// lead delivers, and writes down the answer for those who follow and those who come later. These need not wait until its own
// client has all of it.
func (c *call) lead(f *caching.Flight, plan *router.Plan, q *question) {
	client, w := c.r, c.w
	stop := context.AfterFunc(client.Context(), f.Leave)
	t := &tee{ResponseWriter: w, c: c, flight: f, client: client.Context()}
	c.w, c.r, c.tee = t, client.WithContext(c.detached), t
	defer c.awaitClient(t)
	defer f.Close()
	defer func() {
		stop()
		c.w, c.r, c.tee = w, client, nil
		ok := c.succeeded()
		f.Land(ok)
		if ok {
			c.keep(f, q)
		}
	}()
	c.ask(plan, q)
}

func (c *call) succeeded() bool { return c.rec.Verdict == router.OK && c.rec.Status == http.StatusOK }

// awaitClient waits until the client has its answer, or is gone.
func (c *call) awaitClient(t *tee) {
	t.catchUp()
	if t.panicked != nil {
		panic(t.panicked)
	}
	if t.gone != nil && c.succeeded() {
		c.gone()
	}
}

// ask has an upstream answer: the whole question, or what is not known of it.
func (c *call) ask(plan *router.Plan, q *question) {
	if q.batch != nil && q.batch.partly() {
		c.completeBatch(plan, q)
		return
	}
	c.deliver(plan)
}

// keep puts a finished answer into the store, if it may be given again.
func (c *call) keep(f *caching.Flight, q *question) {
	head, body, extra, ok := f.Answer()
	if !ok {
		return
	}
	if q.batch != nil {
		if !q.batch.kept {
			c.keepBatch(q, body)
		}
		return
	}
	var outcome wire.Outcome
	e := &caching.Entry{
		Form: head.Form, ContentType: head.ContentType, Created: time.Now(), TTL: q.keep, Target: c.rec.Target,
		Tokens: tokens(c.rec.Usage), Counted: c.rec.HasUsage, Extra: extra, Body: body,
	}
	if head.Form == caching.Whole {
		outcome.NoteWhole(body)
	} else {
		e.Body, e.Extra = withoutHeartbeats(body, extra)
		c.noteEvents(&outcome, e.Body)
	}
	if outcome.Complete(c.choices(), c.g.Cache.Length) && c.put(q, []caching.Item{{Key: q.places[0], Value: e.Marshal()}}) {
		c.remember(q)
	}
}

// put keeps items; false if they must not be.
func (c *call) put(q *question, items []caching.Item) bool {
	switch {
	case q.keep <= 0: // a store may take it for ever
		return false
	case q.purges != c.g.Cache.Shared.Purges(): // it may come from what the purge was to make forgotten
		return false
	}
	c.g.Cache.Shared.Resize(c.g.Cache.MaxSize) // a new configuration's size counts from its first answer on
	c.g.Cache.Store.Put(c.rec.Model, items, q.keep)
	c.g.Cache.Shared.Counts.Stored.Add(int64(len(items)))
	return true
}

func tokens(u wire.Usage) caching.Tokens {
	return caching.Tokens{Input: u.Input, Output: u.Output, Cached: u.Cached, Reasoning: u.Reasoning}
}

// choices is how many must have come to an end.
func (c *call) choices() int {
	if c.task.endpoint.Streams() && c.task.endpoint.Framing == wire.Chunks {
		return c.head.Choices()
	}
	return 1
}

func (c *call) noteEvents(o *wire.Outcome, events []byte) {
	for len(events) > 0 {
		var raw []byte
		raw, events = sse.Split(events)
		if e := sse.Parse(raw); e.HasData {
			o.NoteEvent(c.task.endpoint.Framing, e.Name, e.Data)
		}
	}
}

// withoutHeartbeats leaves out comments, which were meant for the moment.
func withoutHeartbeats(events []byte, extra []caching.Span) ([]byte, []caching.Span) {
	if !bytes.HasPrefix(events, []byte(":")) && !bytes.Contains(events, []byte("\n:")) {
		return events, extra
	}
	var kept []byte
	var spans []caching.Span
	for at := 0; at < len(events); {
		raw, _ := sse.Split(events[at:])
		if !sse.Parse(raw).OnlyComments {
			if len(extra) > 0 && extra[0].Start == at {
				spans, extra = append(spans, caching.Span{Start: len(kept), End: len(kept) + len(raw)}), extra[1:]
			}
			kept = append(kept, raw...)
		}
		at += len(raw)
	}
	return kept, spans
}
