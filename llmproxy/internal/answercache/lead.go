package answercache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/caching/coalesce"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// lead has the answer generated and recorded, and stores it. Then it lets followers and later requests have it, and only
// then waits until its own client has read all of it.
func (l *lookup) lead(f *leader, detached context.Context, q *query) (failed *openai.Error) {
	stop := context.AfterFunc(l.ctx, f.Leave)
	r := &recorder{Client: l.to, x: l.x, leader: f, clientCtx: l.ctx, wantsUsage: l.includesUsage()}
	planned := *l.planned
	planned.Shared = true
	defer func() {
		if r.awaitClient() && l.succeeded() { // the client left before it had all of the answer
			failed = exchange.ErrClientClosed
		}
	}()
	defer f.Close()
	defer func() {
		stop()
		ok := failed == nil && l.succeeded()
		f.Finish(ok)
		if ok {
			l.store(f, q)
		}
	}()
	return l.generate(detached, q, &planned, r)
}

func (l *lookup) succeeded() bool {
	return l.x.Record.Verdict == router.OK && l.x.Record.Status == 200
}

// generate has an upstream answer the request, or the part of a batch that is not stored.
func (l *lookup) generate(ctx context.Context, q *query, planned *exchange.PlannedRequest, to exchange.Client) *openai.Error {
	if q.batch != nil && q.batch.partlyStored() {
		return l.completeBatch(ctx, q, planned, to)
	}
	return l.next(ctx, l.x, planned, to)
}

// store stores a finished answer if it is complete.
func (l *lookup) store(f *leader, q *query) {
	head, body, extra, ok := f.Answer()
	if !ok {
		return
	}
	if q.batch != nil {
		if !q.batch.stored {
			l.storeBatch(q, body)
		}
		return
	}
	rec := l.x.Record
	var reasons openai.FinishReasons
	e := &caching.Entry{
		Form: head.Form, ContentType: head.ContentType, Created: time.Now(), TTL: q.ttl, Target: rec.Target,
		Usage: rec.Usage, HasUsage: rec.HasUsage, Extra: extra, Body: body,
	}
	if head.Form == caching.Whole {
		reasons.AddWhole(body)
	} else {
		e.Body, e.Extra = withoutPings(body, extra)
		addEvents(&reasons, l.x.Endpoint.Framing, e.Body)
	}
	if reasons.Complete(l.choices(), l.KeepCut) {
		l.put(q, []caching.Item{{Key: q.keys[0], Value: e.Marshal()}})
	}
}

// put stores items, unless the client or a purge forbids it.
func (l *lookup) put(q *query, items []caching.Item) {
	switch {
	case q.ttl <= 0: // some stores take this as no expiry
		return
	case q.purgeCount != l.Shared.PurgeCount(): // the answer may come from what the purge was meant to remove
		return
	}
	l.Shared.Resize(l.MaxSize) // a new configuration's size takes effect with its first stored answer
	l.Store.Put(l.x.Record.Model, items, q.ttl)
	l.Shared.Counts.Stored.Add(int64(len(items)))
}

// choices returns how many choices a complete answer has.
func (l *lookup) choices() int {
	if l.x.Endpoint.Streams() && l.x.Endpoint.Framing == openai.Chunks {
		return l.planned.Body.JSON().Choices()
	}
	return 1
}

// addEvents adds the finish reasons in a stream.
func addEvents(reasons *openai.FinishReasons, framing openai.Framing, events []byte) {
	for len(events) > 0 {
		var e sse.Event
		if e, events = sse.Cut(events); e.HasData {
			reasons.AddEvent(framing, e.Name, e.Data)
		}
	}
}

// withoutPings removes comments, which only kept the connection alive.
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

// A recorder is the client that the leader's answer is delivered to. It records the answer for the followers and for the
// leader's own client, to which other goroutines send the recording. So a slow client holds up neither the followers
// nor the upstream, and one that leaves does not end the answer for the followers.
type recorder struct {
	exchange.Client
	x          *exchange.Exchange
	leader     *leader
	clientCtx  context.Context
	wantsUsage bool // whether the client asked for the event with the usage

	isStream bool
	reason   []byte    // of the last choice that has finished, as raw JSON
	recorded *follower // what the client is sent; nil before the answer begins

	mu      sync.Mutex
	sending bool // a goroutine sends what was recorded, or the client has left
	// senders are these goroutines. Only after them may what follows be read.
	senders   sync.WaitGroup
	clientErr error // why the client left
	panicked  any   // what its writer panicked with
}

// Commit implements relay.Client.
func (r *recorder) Commit(ctx context.Context, stream bool) (begun bool, err error) {
	r.isStream = stream
	return r.Client.Commit(ctx, stream)
}

// ErrorEvent implements relay.Client. The error is recorded in OpenAI's format, as the answer is, for followers may use another API than
// the leader's client.
func (r *recorder) ErrorEvent(e *openai.Error, state openai.ResponseState) []byte {
	return r.x.OpenAIErrorEvent(e, state)
}

// begin lets the followers and the client read the answer.
func (r *recorder) begin() {
	contentType := r.Header().Get("Content-Type")
	if r.isStream && !strings.HasPrefix(contentType, "text/event-stream") { // the client's dialect has another type for its streams
		contentType = eventType
	}
	head := caching.Head{Form: caching.Whole, ContentType: contentType, Target: r.x.Record.Target, Route: r.x.Record.Route}
	if r.isStream {
		head.Form = caching.Events
	}
	r.leader.Begin(head)
	r.recorded = r.leader.OwnReader()
}

// send has what was recorded sent to the client, by a goroutine that ends when nothing is left to send. A stream waits for its next event
// most of the time, and no second stack waits with it.
func (r *recorder) send() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.sending {
		r.sending = true
		r.senders.Go(r.sendRecorded)
	}
}

// sendRecorded sends what is recorded to the client. Once the answer has begun, nothing else writes to the client.
func (r *recorder) sendRecorded() {
	defer func() { // net/http recovers panics of a handler's own goroutine only
		if panicked := recover(); panicked != nil {
			r.panicked = panicked
			r.leave()
		}
	}()
	_, err := relay.CopyPieces(r.Client, r.isStream, r.nextPiece)
	if err == nil {
		return
	}
	r.clientErr = err
	r.leave()
	if errors.Is(err, coalesce.ErrTooSlow) {
		if !r.isStream {
			panic(http.ErrAbortHandler) // nothing after half a JSON text can report an error
		}
		relay.SendError(r.Client, tooSlow(), openai.ResponseState{})
	}
}

// nextPiece returns the next piece for the client. The error is io.EOF if nothing more has been recorded so far; then the next piece needs
// another goroutine.
func (r *recorder) nextPiece() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	piece, err := r.recorded.Ready(r.wantsUsage)
	switch {
	case err != nil:
		return nil, err
	case piece == nil:
		r.sending = false
		return nil, io.EOF
	}
	return piece, r.clientCtx.Err()
}

// leave notes that the client has left.
func (r *recorder) leave() {
	r.recorded.Close()
	r.leader.Leave()
}

// awaitClient waits until the client was sent all of its answer, and reports whether it left before that. If its writer
// panicked, awaitClient panics.
func (r *recorder) awaitClient() (left bool) {
	if r.recorded == nil {
		return false
	}
	r.mu.Lock()
	sending := r.sending
	r.mu.Unlock()
	if sending { // no attempt is watching it any more
		stop := r.x.Attend(r.Client)
		defer stop()
	}
	r.senders.Wait()
	r.recorded.Close()
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.clientErr != nil
}

// maxPart bounds how much of an answer that is not recorded, and not a stream, waits for its readers, in bytes.
const maxPart = 64 << 10

var usageKey, reasonKey = []byte(`"usage"`), []byte(`"finish_reason":`)

// mayFinish reports whether a choice may finish in the events. Most chunks say that none does: "finish_reason":null.
func mayFinish(events []byte) bool {
	for {
		i := bytes.Index(events, reasonKey)
		if i < 0 {
			return false
		}
		events = bytes.TrimLeft(events[i+len(reasonKey):], " ")
		if !bytes.HasPrefix(events, []byte("null")) {
			return true
		}
	}
}

// Write records a part of the answer. It expects whole events of a stream, the one with the usage included, which is recorded
// as extra because the client may not have asked for it.
func (r *recorder) Write(p []byte) (int, error) {
	if r.recorded == nil {
		r.begin()
	}
	switch {
	case !r.isStream:
		r.leader.Expect(len(p))
		for part := range slices.Chunk(p, maxPart) {
			if err := r.record(part, false); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	case !bytes.Contains(p, usageKey) && !mayFinish(p):
		return len(p), r.record(p, false)
	}
	framing, from := r.x.Endpoint.Framing, 0
	for at := 0; at < len(p); {
		e, _ := sse.Cut(p[at:])
		raw := e.Raw
		var x openai.Event
		if e.HasData {
			x = framing.Next(e.Name, e.Data)
		}
		if x.Reason != nil {
			r.reason = bytes.Clone(x.Reason)
		}
		if x.UsageOnly {
			if err := errors.Join(r.record(p[from:at], false), r.record(r.besideUsage(e.Data), false), r.record(raw, true)); err != nil {
				return 0, err
			}
			from = at + len(raw)
		}
		at += len(raw)
	}
	return len(p), r.record(p[from:], false)
}

// besideUsage returns what else stands in the event with the usage, as an event for clients that did not ask for the usage, or nil. If
// the leader's client asked for it, it gets the event itself.
func (r *recorder) besideUsage(chunk []byte) []byte {
	if r.wantsUsage {
		return nil
	}
	rest, ok := openai.WithoutUsage(r.x.Endpoint, chunk, r.reason)
	if !ok {
		return nil
	}
	return sse.AppendData(nil, rest)
}

// errInterrupted means that no client read the answer any more.
var errInterrupted = errors.New("the clients have stopped reading")

// record records a part of the answer. If the answer is too long for that, it waits for those that read it.
func (r *recorder) record(p []byte, usage bool) error {
	if len(p) == 0 {
		return nil
	}
	if !r.leader.Write(p, usage) {
		return errInterrupted
	}
	r.send()
	return nil
}

// Flush does nothing once the answer has begun, because sendRecorded flushes each piece.
func (r *recorder) Flush() error {
	if r.recorded != nil {
		return nil
	}
	return r.Client.Flush()
}

// Busy implements exchange.Client. While the answer is recorded, a slow client does not hold it up.
func (r *recorder) Busy() bool {
	if r.leader.Waiting() {
		return true
	}
	return !r.leader.Begun() && r.Client.Busy()
}

// Interrupt implements exchange.Client.
func (r *recorder) Interrupt() {
	r.Client.Interrupt()
	r.leader.Interrupt()
}
