package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
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
		f, leads := flights.Join(q.key, limit, cancel)
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

// lead delivers, and writes down the answer for those who follow and those who come later.
func (c *call) lead(f *caching.Flight, plan *router.Plan, q *question) {
	client, w := c.r, c.w
	stop := context.AfterFunc(client.Context(), f.Leave)
	t := &tee{ResponseWriter: w, c: c, flight: f, client: client.Context(), flush: http.NewResponseController(w)}
	c.w, c.r, c.tee = t, client.WithContext(c.detached), t
	defer f.Close()
	defer func() {
		stop()
		c.w, c.r, c.tee = w, client, nil
		ok := c.rec.Verdict == router.OK && c.rec.Status == http.StatusOK
		f.Land(ok)
		if ok {
			c.keep(f, q)
		}
		if t.gone && ok {
			c.gone()
		}
	}()
	c.deliver(plan)
}

// keep puts a finished answer into the store, if it may be given again.
func (c *call) keep(f *caching.Flight, q *question) {
	head, body, extra, ok := f.Answer()
	if !ok {
		return
	}
	if q.batch != nil {
		c.keepBatch(q, body)
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
	if outcome.Complete(c.choices(), c.g.Cache.Length) {
		c.put([]caching.Item{{Key: q.key, Value: e.Marshal()}}, q.keep)
	}
}

func (c *call) put(items []caching.Item, ttl time.Duration) {
	c.g.Cache.Shared.Memory.Resize(c.g.Cache.MaxSize) // a new configuration's size counts from its first answer on
	c.g.Cache.Store.Put(c.rec.Model, items, ttl)
	c.g.Cache.Shared.Counts.Stored.Add(int64(len(items)))
}

func tokens(u wire.Usage) caching.Tokens {
	return caching.Tokens{Input: u.Input, Output: u.Output, Cached: u.Cached, Reasoning: u.Reasoning}
}

// choices is how many must have come to an end.
func (c *call) choices() int {
	if c.task.endpoint.Streams() && c.task.endpoint.Framing == wire.Chunks {
		return c.head.N
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

// A tee writes an answer to its client and to those who follow. When the client leaves while others follow, it goes on.
type tee struct {
	http.ResponseWriter
	c      *call
	flight *caching.Flight
	client context.Context
	flush  *http.ResponseController
	events bool
	begun  bool
	gone   bool
}

// begin tells those who follow that the answer is there.
func (t *tee) begin() {
	contentType := t.Header().Get("Content-Type")
	media, _, _ := mime.ParseMediaType(contentType) // what cannot be read is no stream
	t.events, t.begun = media == "text/event-stream", true
	head := caching.Head{Form: caching.Whole, ContentType: contentType, Target: t.c.rec.Target, Route: t.c.rec.Route}
	if t.events {
		head.Form = caching.Events
	}
	t.flight.Begin(head)
}

var usageKey = []byte(`"usage"`)

// Write implements http.ResponseWriter. What it is given of a stream is whole events, those with the usage included; of
// these the client gets what it asked for.
func (t *tee) Write(p []byte) (int, error) {
	if !t.c.committed { // an error, or a sign of life
		return t.ResponseWriter.Write(p)
	}
	if !t.begun {
		t.begin()
	}
	if !t.events || !bytes.Contains(p, usageKey) {
		return len(p), t.pass(p, false)
	}
	framing, from := t.c.task.endpoint.Framing, 0
	for at := 0; at < len(p); {
		raw, _ := sse.Split(p[at:])
		e := sse.Parse(raw)
		if e.HasData && framing.Next(e.Name, e.Data).UsageOnly {
			if err := errors.Join(t.pass(p[from:at], false), t.pass(raw, true)); err != nil {
				return 0, err
			}
			from = at + len(raw)
		}
		at += len(raw)
	}
	return len(p), t.pass(p[from:], false)
}

func (t *tee) pass(p []byte, usage bool) error {
	if len(p) == 0 {
		return nil
	}
	t.flight.Write(p, usage)
	if usage && !t.c.head.IncludeUsage {
		return nil
	}
	return t.forgive(func() error { _, err := t.ResponseWriter.Write(p); return err })
}

// FlushError implements what http.ResponseController looks for.
func (t *tee) FlushError() error { return t.forgive(t.flush.Flush) }

// forgive does something for the client. That it is gone is no error while others follow.
func (t *tee) forgive(do func() error) error {
	if !t.gone && t.client.Err() == nil {
		err := do()
		if err == nil || errors.Is(err, http.ErrNotSupported) {
			return err
		}
		t.gone = true
		if !t.flight.Followed() {
			return err
		}
	}
	t.gone = true
	return nil
}

// Unwrap gives http.ResponseController the client's writer.
func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// follow reads along with a flight; false if there is nothing to follow, and the client got nothing yet.
func (c *call) follow(f *caching.Flight) bool {
	r := f.Follow()
	defer r.Close()
	ctx := c.r.Context()
	head, err := c.awaitHead(ctx, r)
	if err != nil {
		return c.left(err)
	}
	e := &caching.Entry{Form: head.Form, ContentType: head.ContentType, Target: head.Target, Created: time.Now()}
	if c.rec.Stream && head.Form == caching.Events {
		c.rec.Route = head.Route
		c.given(e, cacheCoalesced)
		m, err := relay.ReplayEvents(c.w, c.begunStream(e.ContentType), func() ([]byte, error) { return r.Next(ctx, c.head.IncludeUsage) })
		if errors.Is(err, io.ErrUnexpectedEOF) {
			// The error event that the leader's client got is among the events.
			c.rec.Verdict, err = router.Broken, nil
		}
		c.sent(m, err)
		return true
	}
	if e.Body, e.Extra, err = r.All(ctx); err != nil {
		return c.left(err)
	}
	shown, ok := c.inForm(e, c.wanted())
	if ok {
		c.rec.Route = head.Route
		c.given(shown, cacheCoalesced)
		c.play(shown)
	}
	return ok
}

// awaitHead waits for the answer to begin. Meanwhile the client of a stream gets its signs of life.
func (c *call) awaitHead(ctx context.Context, r *caching.Follower) (caching.Head, error) {
	for {
		now := time.Now()
		soon, cancel := context.WithTimeout(ctx, c.untilBeat(now, beatEvery))
		head, err := r.Head(soon)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return head, err
		}
		if c.untilBeat(time.Now(), beatEvery) < beatEvery {
			c.pulse.Beat(c.w)
		}
	}
}

// begunStream gives the type of a stream, or nothing if its header was sent already, with a sign of life.
func (c *call) begunStream(contentType string) string {
	if c.pulse.Stop() {
		return ""
	}
	return contentType
}

// left ends a request that waited for somebody else's answer: true if it is its client that left.
func (c *call) left(err error) bool {
	if errors.Is(err, caching.ErrAlone) {
		return false
	}
	c.gone()
	return true
}
