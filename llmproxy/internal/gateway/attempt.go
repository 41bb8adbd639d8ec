package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// errNoStream says that the client, who has waited long for its stream, cannot be given anything else any more.
var errNoStream = errors.New("the upstream answered no stream, and the client's has begun")

// maxErrorBody bounds what is read of an error answer.
const maxErrorBody = 64 << 10

// An attempt is one try at one target, with a context of its own: cancelling it stops the upstream.
type attempt struct {
	c         *call
	u         *upstream.Upstream
	candidate router.Candidate
	model     string
	started   time.Time
	span      Span // nil where nobody traces
	status    int
	size      int64 // of the request's body
	ctx       context.Context
	cancel    context.CancelCauseFunc
	patience  patience
	idle      time.Duration
	last      bool // no other target is left
	quiet     bool // its end says nothing of the replica
	stops     [2]func() bool
}

func (c *call) attempt(candidate router.Candidate, last bool) *attempt {
	a := &attempt{c: c, u: c.g.upstreams[candidate.Target.Upstream], candidate: candidate, model: candidate.Target.ModelFor(c.rec.Model), started: time.Now()}
	ctx := c.r.Context()
	if c.g.Trace != nil {
		ctx, a.span = c.g.Trace(ctx, c.rec, a.done(router.OK))
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	timers := a.u.Timers
	a.idle = or(timers.Idle, idleDefault)
	a.last = last
	c.rec.Target, c.rec.Configured = a.target(), candidate.Target // before a sign of life may be sent, which may tell it
	a.await(a.forContent())
	if timers.Total > 0 {
		a.stops[0] = time.AfterFunc(timers.Total, func() { a.cancel(errTotal) }).Stop
	}
	if c.g.Draining != nil {
		a.stops[1] = context.AfterFunc(c.g.Draining, func() { a.cancel(errDraining) })
	}
	return a
}

func (a *attempt) close() {
	a.patience.stop()
	for _, stop := range a.stops {
		if stop != nil {
			stop()
		}
	}
	a.cancel(nil)
}

func (a *attempt) target() string { return a.u.Name + "/" + a.model }

// run sends the request, holds the answer until it is worth committing to, and commits.
func (a *attempt) run() *failure {
	if a.c.localOnly && !a.u.IsLocal() {
		return a.fail(router.Config, errStays) // the walk does not come here; should it ever, nothing leaves
	}
	if failed := a.load(); failed != nil {
		return failed
	}
	req := a.u.Request(a.ctx, &a.c.up, a.candidate.Replica, a.model)
	a.size = req.ContentLength
	a.candidate.Replica.Enter(a)
	defer a.candidate.Replica.Leave(a)
	if a.span != nil {
		a.span.Inject(req.Header)
	}
	res, err := a.u.Transport.RoundTrip(req)
	if err != nil {
		return a.fail(a.verdict(err), err)
	}
	a.status = res.StatusCode
	if res.StatusCode != http.StatusOK {
		return a.refused(res)
	}
	answer, err := relay.Hold(res, a.expect())
	if err != nil {
		return a.unfit(err)
	}
	defer answer.Close()
	if a.c.pulse.Stop() && !relay.Streams(answer) {
		return a.fail(router.Broken, errNoStream)
	}
	a.commit(answer)
	return nil
}

func (a *attempt) expect() relay.Expect {
	c := a.c
	return relay.Expect{
		Endpoint:  c.task.endpoint,
		HideUsage: c.up.Head != nil && !c.head.IncludeUsage && c.tee == nil,
		Choices:   c.head.N,
		Base64:    c.task.endpoint.Vectors && c.head.WantsBase64(),
		Count:     c.rec.Logged,
		Begun:     a.c.pulse.Stop,
		Progress:  a.progress,
	}
}

// progress is called for each read that brought something.
func (a *attempt) progress(content bool) {
	a.patience.watch.Reset(a.idle)
	if content {
		a.candidate.Replica.Stir()
	}
}

// refused reads an error answer.
func (a *attempt) refused(res *http.Response) *failure {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil && a.ctx.Err() != nil {
		return a.fail(a.verdict(err), err)
	}
	found := a.u.Speaks().Classify(res.StatusCode, res.Header, body)
	f := a.fail(found.Verdict, a.refusal(res.StatusCode, body))
	f.Finding, f.body = found, body
	a.learn(found)
	return f
}

// unfit judges an answer of status 200 that was none.
func (a *attempt) unfit(err error) *failure {
	var event *relay.EventError
	if !errors.As(err, &event) {
		return a.fail(a.verdict(err), err)
	}
	found := a.u.Speaks().ClassifyEvent(event.Value)
	f := a.fail(found.Verdict, a.refusal(http.StatusOK, errorBody(event.Value)))
	f.Finding, f.body = found, errorBody(event.Value)
	a.learn(found)
	return f
}

func errorBody(value []byte) []byte {
	return append(append([]byte(`{"error":`), value...), '}')
}

func (a *attempt) fail(v router.Verdict, err error) *failure {
	return &failure{Finding: upstream.Finding{Verdict: v}, upstream: a.u.Name, target: a.target(), configured: a.candidate.Target, status: a.status, err: err}
}

// verdict judges a failure to get an answer at all.
func (a *attempt) verdict(err error) router.Verdict {
	var notSent *upstream.NotSentError
	switch {
	case a.c.r.Context().Err() != nil:
		return router.Gone
	case isAny(context.Cause(a.ctx), errSilent, errTotal, errOverdue, errWedged):
		return router.Slow
	case errors.As(err, &notSent):
		return router.NotUp
	}
	return router.Broken
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// commit sends the answer. From here on a failure can only be told, not mended.
func (a *attempt) commit(answer relay.Answer) {
	c := a.c
	a.patience.begin(a.idle)
	a.candidate.Replica.Stir()
	c.committed = true
	c.rec.FirstContent = time.Since(c.rec.Started)
	c.rec.Status, c.rec.Verdict = http.StatusOK, router.OK
	c.announce(strconv.Itoa(len(c.rec.Attempts) + 1))
	if a.compare(answer.Meter()); c.rec.Warning != "" {
		c.w.Header()["X-Llm-Warning"] = []string{c.rec.Warning}
	}
	if c.rec.Stream && c.g.Streaming != nil {
		c.g.Streaming(1)
		defer c.g.Streaming(-1)
	}
	err := answer.Send(c.w)
	var end *wire.Error
	if err != nil {
		end = a.brokenOff(err)
	}
	told := end == nil || answer.End(c.w, end)
	m := answer.Meter()
	c.rec.Events, c.rec.Bytes, c.rec.Chars = m.Events, m.Bytes, m.Said.Chars
	c.use(m)
	if c.rec.Stream {
		a.compare(m)
	}
	a.cost()
	if !told {
		// Half a body with a proper end would pass for a whole one.
		panic(http.ErrAbortHandler)
	}
}

// brokenOff judges a failure after the first byte and gives what the client is to be told; nil if it is gone.
func (a *attempt) brokenOff(err error) *wire.Error {
	c := a.c
	var client *relay.ClientError
	if errors.As(err, &client) || c.r.Context().Err() != nil {
		c.gone()
		return nil
	}
	c.rec.Verdict = a.verdict(err)
	var event *relay.EventError
	name := "The upstream \"" + a.u.Name + "\""
	switch {
	case errors.As(err, &event):
		message, kind, code, param, _ := wire.ErrorOf(errorBody(event.Value))
		c.rec.Err = &wire.Error{Status: http.StatusBadGateway, Type: kind, Code: code, Param: param, Message: message}
		if kind == "" {
			c.rec.Err.Type = serverError
		}
	case errors.Is(context.Cause(a.ctx), errDraining):
		c.rec.Err = shuttingDown()
	case c.rec.Verdict == router.Slow:
		c.rec.Err = upstreamTimeout(name + " went silent; the answer is not complete.")
	default:
		c.rec.Err = upstreamError(name + " broke off; the answer is not complete.")
	}
	if c.g.Observe != nil {
		done := a.done(c.rec.Verdict)
		done.Err = err
		c.g.Observe(c.rec, done)
	}
	return c.rec.Err
}
