package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// maxErrorBody bounds what is read of an error answer, in bytes.
const maxErrorBody = 64 << 10

// An attempt is one try at one target, with a context of its own: cancelling it stops the upstream.
type attempt struct {
	*run
	u         *upstream.Upstream
	candidate router.Candidate
	replica   *replica.Replica
	model     string
	target    string // "upstream/model"
	started   time.Time
	span      Span // nil where nobody traces
	status    int  // what the upstream answered, zero before it did
	size      int64
	ctx       context.Context
	cancel    context.CancelCauseFunc
	watchdog  watchdog
	last      bool // no other target is left
	blameless bool // its end says nothing of the replica
}

// try makes one attempt and records it; nil means that the client got its answer, or as much of it as came.
func (s *run) try(candidate router.Candidate, last bool) *failure {
	a := s.newAttempt(candidate, last)
	defer a.replica.Release()
	defer a.close()
	var failed *failure
	defer func() { a.over(failed) }() // also when an answer breaks off that cannot tell its end
	failed = a.perform()
	a.reload(failed)
	return failed
}

func (s *run) newAttempt(candidate router.Candidate, last bool) *attempt {
	a := &attempt{run: s, u: s.upstreams[candidate.Target.Upstream], candidate: candidate, model: candidate.Target.ModelFor(s.rec.Model), started: time.Now(), last: last}
	a.replica = a.u.Replicas[candidate.Replica]
	a.target = a.u.Name + "/" + a.model
	ctx := s.ctx
	if s.Trace != nil {
		ctx, a.span = s.Trace(ctx, s.rec, a.done(router.OK))
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	s.rec.Target, s.rec.Configured = a.target, candidate.Target // before a ping may be sent, whose header may tell it
	a.watchdog.start(a)
	s.enter(a)
	return a
}

func (a *attempt) close() {
	a.watchdog.stop()
	a.leave(a)
	a.cancel(nil)
}

// perform sends the request, holds the answer until it is worth committing to, and commits.
func (a *attempt) perform() *failure {
	if a.ask.LocalOnly && !a.u.IsLocal() {
		return a.fail(router.Misconfigured, errLocalOnly) // the walk does not come here; should it ever, nothing leaves
	}
	if failed := a.load(); failed != nil {
		return failed
	}
	req := a.u.NewRequest(a.ctx, &a.call, a.replica, a.model)
	a.size = req.ContentLength
	a.replica.Begin(a)
	defer a.replica.Finish(a)
	if a.span != nil {
		a.span.Inject(req.Header)
	}
	res, err := a.u.RoundTrip(req)
	if err != nil {
		return a.fail(a.verdict(err), err)
	}
	a.status = res.StatusCode
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated { // some frameworks say 201 to every POST
		return a.refused(res)
	}
	answer, err := relay.Hold(res, a.expect())
	if err != nil {
		return a.unfit(err)
	}
	defer answer.Close()
	begun, err := a.client.Commit(a.ctx, answer.Streams())
	if err != nil {
		return a.fail(a.verdict(err), err)
	}
	a.send(answer, begun)
	return nil
}

func (a *attempt) expect() relay.Expect {
	head := a.call.JSON
	e := relay.Expect{Endpoint: a.x.Endpoint, Stream: a.rec.Stream, Choices: 1, Count: a.rec.Logged, Progress: a}
	if head != nil {
		e.HideUsage = !head.IncludeUsage && !a.ask.KeepUsage
		e.Choices = head.Choices()
		e.Base64 = a.x.Endpoint.Vectors && head.WantsBase64()
	}
	return e
}

// Read implements relay.Progress.
func (a *attempt) Read(content bool) {
	a.watchdog.progress()
	if content {
		a.replica.Progress()
	}
}

// send relays an answer that is committed to. From here on a failure can only be told.
func (a *attempt) send(answer relay.Answer, begun bool) {
	rec := a.rec
	a.watchdog.answering()
	a.replica.Progress()
	rec.FirstContent = time.Since(rec.Started)
	rec.Status, rec.Verdict = http.StatusOK, router.OK
	header := a.client.Header()
	a.x.SetAnswerHeaders(header, strconv.Itoa(len(rec.Attempts)+1))
	if a.compare(answer.Meter()); rec.Warning != "" {
		header["X-Llm-Warning"] = []string{rec.Warning}
	}
	if rec.Stream && a.Streaming != nil {
		a.Streaming(1)
		defer a.Streaming(-1)
	}
	told := true
	if err := answer.Send(a.client, begun); err != nil {
		if end := a.brokenOff(err); end != nil {
			if told = answer.Streams(); told {
				relay.End(a.client, end)
			}
		}
	}
	m := answer.Meter()
	rec.Events, rec.Bytes, rec.Chars = m.Events, m.Bytes, m.Text.Chars
	a.use(m)
	if rec.Stream {
		a.compare(m)
	}
	a.cost()
	if !told {
		panic(http.ErrAbortHandler)
	}
}

// use records what the answer used: as the upstream counted it, else estimated from the texts, of which the answer's is what
// was seen of it.
func (a *attempt) use(m relay.Meter) {
	rec, head := a.rec, a.call.JSON
	rec.Usage, rec.HasUsage = m.Usage, m.HasUsage
	if m.HasUsage || !a.x.Endpoint.Texts || head == nil {
		return
	}
	rec.Usage = openai.Usage{Input: int64(head.Signals().PromptTokens), Output: int64(openai.EstimateTokens(m.Text.Bytes))}
	rec.HasUsage, rec.Estimated = true, true
}

// cost records what the answer costs at the target that gave it.
func (a *attempt) cost() {
	rec := a.rec
	price := a.Price(a.u, rec.Target)
	if price == nil || price.CountsTokens() && !rec.HasUsage {
		return
	}
	busy := time.Since(a.started)
	used := prices.Tokens{Input: rec.Usage.Input, Cached: rec.Usage.Cached, Output: rec.Usage.Output}
	rec.Cost, rec.HasCost = price.Cost(used, busy), true
	if rec.HasUsage {
		rec.Saved = price.Saved(used, busy)
	}
}

// brokenOff judges a failure after the first byte and returns what the client is to be told; nil if it has left.
func (a *attempt) brokenOff(err error) *openai.Error {
	rec := a.rec
	var client *relay.ClientError
	if errors.As(err, &client) || a.run.ctx.Err() != nil {
		rec.Verdict, rec.Status = router.ClientClosed, exchange.StatusClientClosed
		return nil
	}
	rec.Verdict = a.verdict(err)
	var event *relay.EventError
	name := "The upstream \"" + a.u.Name + "\""
	switch {
	case errors.As(err, &event):
		parsed, _ := openai.ParseError(errorBody(event.Value))
		parsed.Status, parsed.Type = http.StatusBadGateway, cmp.Or(parsed.Type, exchange.ServerError)
		rec.Err = &parsed
	case errors.Is(context.Cause(a.ctx), errDraining):
		rec.Err = shuttingDown()
	case rec.Verdict == router.Timeout:
		rec.Err = upstreamTimeout(name + " stopped sending; the answer is not complete.")
	default:
		rec.Err = exchange.UpstreamError(name + " broke off; the answer is not complete.")
	}
	if a.Observe != nil {
		done := a.done(rec.Verdict)
		done.Err = a.because(err)
		a.Observe(rec, done)
	}
	return rec.Err
}

// over records the attempt.
func (a *attempt) over(failed *failure) {
	a.watchdog.stop() // no ping is begun while the record changes
	done, outcome := a.done(a.rec.Verdict), router.Outcome{Verdict: a.rec.Verdict}
	if failed != nil {
		outcome, done.Err = failed.Outcome, failed.err
		done.Verdict, a.rec.Verdict = failed.Verdict, failed.Verdict
	}
	a.report(outcome)
	a.rec.AddAttempt(done)
	if a.span != nil {
		a.span.End(a.rec, done)
	}
	if failed != nil && a.Observe != nil {
		a.Observe(a.rec, done)
	}
}

func (a *attempt) done(v router.Verdict) exchange.Attempt {
	return exchange.Attempt{
		Target: a.target, Configured: a.candidate.Target, Address: a.replica.Address,
		Verdict: v, Status: a.status, Duration: time.Since(a.started),
	}
}

// report tells the replica what the end of the attempt says of it. What we ended ourselves says nothing.
func (a *attempt) report(o router.Outcome) {
	cause := context.Cause(a.ctx)
	if a.blameless || isAny(cause, errDraining, errDeadline) {
		return
	}
	if change, told := a.replica.Report(a.model, o, a.u.CanProbe()); told {
		a.Health.tell(a.u, Change{Change: change, Address: a.replica.Address})
	}
	if o.Verdict != router.OK {
		a.Health.Watch(a.u, a.replica)
	}
	if errors.Is(cause, errSilent) {
		a.Health.suspect(a.u, a.replica)
	}
}

// refused reads an error answer.
func (a *attempt) refused(res *http.Response) *failure {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil && a.ctx.Err() != nil {
		return a.fail(a.verdict(err), err)
	}
	return a.found(a.u.ActualKind().Classify(res.StatusCode, res.Header, body), res.StatusCode, body)
}

// unfit judges an answer of status 200 that was none.
func (a *attempt) unfit(err error) *failure {
	var event *relay.EventError
	if !errors.As(err, &event) {
		return a.fail(a.verdict(err), err)
	}
	return a.found(a.u.ActualKind().ClassifyEvent(event.Value), http.StatusOK, errorBody(event.Value))
}

// found is the failure of an upstream that said what is wrong.
func (a *attempt) found(what upstream.Finding, status int, body []byte) *failure {
	f := a.fail(what.Verdict, a.refusal(status, body))
	f.Finding, f.body = what, body
	a.learn(what)
	return f
}

// refusal is an upstream's error answer for the log. Its own words may quote what the client said, so that they are logged
// only where prompts are, too; and never those about a key, which may quote ours.
func (a *attempt) refusal(status int, body []byte) error {
	if a.LogPrompts && status != http.StatusUnauthorized {
		return fmt.Errorf("status %d: %.300q", status, body)
	}
	parsed, _ := openai.ParseError(body)
	return fmt.Errorf("status %d, type %.60q, code %.60q", status, parsed.Type, parsed.Code)
}

func errorBody(value []byte) []byte {
	return append(append([]byte(`{"error":`), value...), '}')
}

func (a *attempt) fail(v router.Verdict, err error) *failure {
	return &failure{Finding: upstream.Finding{Outcome: router.Outcome{Verdict: v}}, upstream: a.u.Name, target: a.target, configured: a.candidate.Target, status: a.status, err: a.because(err)}
}

// because adds why the attempt was ended to the error that its transport made of that.
func (a *attempt) because(err error) error {
	if why := context.Cause(a.ctx); why != nil && !errors.Is(err, why) {
		return fmt.Errorf("%w (%w)", why, err)
	}
	return err
}

// verdict judges a failure to get an answer at all.
func (a *attempt) verdict(err error) router.Verdict {
	var connect *upstream.ConnectError
	switch {
	case a.run.ctx.Err() != nil:
		return router.ClientClosed
	case isAny(context.Cause(a.ctx), errSilent, errTimeout, errDeadline, errStuck):
		return router.Timeout
	case errors.As(err, &connect):
		return router.Unreachable
	}
	return router.Failed
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
