package answercache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// lead has the answer generated, and recorded for its followers and for those who come later. These need not wait until its
// own client has all of it.
func (l *lookup) lead(f *leader, detached context.Context, q *question) (failed *openai.Error) {
	stop := context.AfterFunc(l.ctx, f.Leave)
	r := &recorder{Client: l.to, x: l.x, leader: f, client: l.ctx, usage: l.includesUsage()}
	ask := *l.ask
	ask.KeepUsage = true
	defer func() {
		if r.await() && l.succeeded() { // its client left before it had all of it
			failed = exchange.ClientClosed
		}
	}()
	defer f.Close()
	defer func() {
		stop()
		ok := failed == nil && l.succeeded()
		f.Finish(ok)
		if ok {
			l.keep(f, q)
		}
	}()
	return l.generate(detached, q, &ask, r)
}

func (l *lookup) succeeded() bool {
	return l.x.Record.Verdict == router.OK && l.x.Record.Status == 200
}

// generate has an upstream answer: the whole question, or what is not known of it.
func (l *lookup) generate(ctx context.Context, q *question, ask *exchange.Ask, to exchange.Client) *openai.Error {
	if q.batch != nil && q.batch.partly() {
		return l.completeBatch(ctx, q, ask, to)
	}
	return l.next(ctx, l.x, ask, to)
}

// keep stores a finished answer, if it may be given again.
func (l *lookup) keep(f *leader, q *question) {
	head, body, extra, ok := f.Answer()
	if !ok {
		return
	}
	if q.batch != nil {
		if !q.batch.kept {
			l.keepBatch(q, body)
		}
		return
	}
	rec := l.x.Record
	var outcome openai.FinishReasons
	e := &caching.Entry{
		Form: head.Form, ContentType: head.ContentType, Created: time.Now(), TTL: q.keep, Target: rec.Target,
		Tokens:  caching.Tokens{Input: rec.Usage.Input, Output: rec.Usage.Output, Cached: rec.Usage.Cached, Reasoning: rec.Usage.Reasoning},
		Counted: rec.HasUsage, Extra: extra, Body: body,
	}
	if head.Form == caching.Whole {
		outcome.AddWhole(body)
	} else {
		e.Body, e.Extra = withoutPings(body, extra)
		noteEvents(&outcome, l.x.Endpoint.Framing, e.Body)
	}
	if outcome.Complete(l.choices(), l.Length) {
		l.put(q, []caching.Item{{Key: q.places[0], Value: e.Marshal()}})
	}
}

// put stores items, unless they must not be.
func (l *lookup) put(q *question, items []caching.Item) {
	switch {
	case q.keep <= 0: // a store may take it for ever
		return
	case q.purges != l.Shared.Purges(): // it may come from what the purge was to make forgotten
		return
	}
	l.Shared.Resize(l.MaxSize) // a new configuration's size counts from its first answer on
	l.Store.Put(l.x.Record.Model, items, q.keep)
	l.Shared.Counts.Stored.Add(int64(len(items)))
}

// choices is how many must have come to an end.
func (l *lookup) choices() int {
	if l.x.Endpoint.Streams() && l.x.Endpoint.Framing == openai.Chunks {
		return l.ask.Body.JSON().Choices()
	}
	return 1
}

func noteEvents(o *openai.FinishReasons, framing openai.Framing, events []byte) {
	for len(events) > 0 {
		var e sse.Event
		if e, events = sse.Cut(events); e.HasData {
			o.AddEvent(framing, e.Name, e.Data)
		}
	}
}

// withoutPings leaves out comments, which were meant for the moment.
func withoutPings(events []byte, extra []caching.Span) ([]byte, []caching.Span) {
	if !bytes.HasPrefix(events, []byte(":")) && !bytes.Contains(events, []byte("\n:")) {
		return events, extra
	}
	var kept []byte
	var spans []caching.Span
	for at := 0; at < len(events); {
		event, _ := sse.Cut(events[at:])
		raw := event.Raw
		if !event.OnlyComments {
			if len(extra) > 0 && extra[0].Start == at {
				spans, extra = append(spans, caching.Span{Start: len(kept), End: len(kept) + len(raw)}), extra[1:]
			}
			kept = append(kept, raw...)
		}
		at += len(raw)
	}
	return kept, spans
}

// A recorder stands before the leader's client and records the answer, for followers and for that client itself, which reads
// along as they do: a slow client keeps nobody waiting, neither them nor the upstream, and one that leaves takes nothing from
// them.
type recorder struct {
	exchange.Client
	x      *exchange.Exchange
	leader *leader
	client context.Context
	usage  bool // the client asked for the event with the usage

	events bool          // the answer is a stream of events
	told   chan struct{} // closed when the client was sent what is recorded, or has left; nil before the answer began
	// Known once told is closed: why the client has left, and what its writer panicked with.
	left     error
	panicked any

	alone bool // the answer is too long to be recorded: its client gets the rest as it comes
}

// begin tells the followers that the answer is there, and has its client read along.
func (r *recorder) begin() {
	contentType := r.Header().Get("Content-Type")
	media, _, _ := mime.ParseMediaType(contentType) // what cannot be read is no stream
	r.events, r.told = media == "text/event-stream", make(chan struct{})
	head := caching.Head{Form: caching.Whole, ContentType: contentType, Target: r.x.Record.Target, Route: r.x.Record.Route}
	if r.events {
		head.Form = caching.Events
	}
	r.leader.Begin(head)
	go r.tell(r.leader.Own())
}

// tell sends the client what is recorded. Until it is over, nobody else writes an answer to the client.
func (r *recorder) tell(recorded *follower) {
	defer close(r.told)
	defer func() { // net/http survives a handler that panics, but only in its own goroutine
		if r.panicked = recover(); r.panicked != nil {
			r.leader.Leave()
		}
	}()
	_, err := relay.ReadAlong(r.Client, r.events, func() ([]byte, error) { return recorded.Next(r.client, r.usage) })
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) { // the end of an answer that broke off
		r.left = err
		r.leader.Leave()
	}
}

// catchUp waits until the client has what was recorded.
func (r *recorder) catchUp() {
	if r.told != nil {
		<-r.told
	}
}

// await waits until the client has its answer; left reports whether it has left before.
func (r *recorder) await() (left bool) {
	r.catchUp()
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.left != nil
}

var usageKey = []byte(`"usage"`)

// Write records a part of the answer. What it is given of a stream is whole events, those with the usage included; of these
// the client gets what it asked for.
func (r *recorder) Write(p []byte) (int, error) {
	if r.told == nil {
		r.begin()
	}
	if !r.events || !bytes.Contains(p, usageKey) {
		return len(p), r.record(p, false)
	}
	framing, from := r.x.Endpoint.Framing, 0
	for at := 0; at < len(p); {
		e, _ := sse.Cut(p[at:])
		raw := e.Raw
		if e.HasData && framing.Next(e.Name, e.Data).UsageOnly {
			if err := errors.Join(r.record(p[from:at], false), r.record(raw, true)); err != nil {
				return 0, err
			}
			from = at + len(raw)
		}
		at += len(raw)
	}
	return len(p), r.record(p[from:], false)
}

// record records a part of the answer. What is too long for that waits for the client, as an answer does that nobody shares.
func (r *recorder) record(p []byte, usage bool) error {
	if len(p) == 0 || !r.alone && r.leader.Write(p, usage) {
		return nil
	}
	if !r.alone {
		r.catchUp()
		r.leader.Forget()
		r.alone = true
	}
	if r.left != nil {
		return r.left
	}
	if usage && !r.usage {
		return nil
	}
	_, err := r.Client.Write(p)
	return err
}

// Flush does nothing while the answer is recorded: each piece that the client is sent is flushed.
func (r *recorder) Flush() error {
	if r.told != nil && !r.alone {
		return nil
	}
	return r.Client.Flush()
}

// Busy implements exchange.Client: recording holds nothing up.
func (r *recorder) Busy() bool { return (r.told == nil || r.alone) && r.Client.Busy() }
