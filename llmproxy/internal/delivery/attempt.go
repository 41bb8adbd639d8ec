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
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// maxErrorBody bounds how much of an error response is read, in bytes.
const maxErrorBody = 64 << 10

// An attempt is one try at one target. It has a context of its own, whose cancellation stops the upstream.
type attempt struct {
	*run
	u         *upstream.Upstream
	candidate router.Candidate
	replica   *replica.Replica
	model     string
	target    string // "upstream/model"
	started   time.Time
	// promptTokens is an estimate of the length of the prompt, if a timeout depends on it; firstContent is how long the first content took.
	promptTokens int
	firstContent time.Duration
	contents     atomic.Int64 // events with content so far
	span         Span         // nil without tracing
	status       int          // of the upstream's response; zero if there was none
	sent         http.Header  // of the request, until the commit
	secrets      []string     // in them, from then on
	header       http.Header  // of a successful response
	ctx          context.Context
	cancel       context.CancelCauseFunc
	watchdog     watchdog
	last         bool // there is no other target
	begun        bool // the client got the first of the answer
	blameless    bool // a failure is not the replica's fault
	// atServer means that the server may be at work on the request, abandoned that the gateway has left meanwhile.
	atServer, abandoned bool
	// used is what the request has used at the replica.
	used admission.Usage
}

// try makes one attempt and records it. It returns nil if an answer was committed, even if that broke off later.
func (s *run) try(candidate router.Candidate, last bool) *failure {
	a := s.newAttempt(candidate, last)
	defer a.leaveSlot()
	defer a.close()
	var failed *failure
	defer func() { a.record(failed) }() // also if send panics
	if failed = a.perform(); failed != nil {
		failed.reason = reason(a.status, failed.body, failed.err, a.redactor())
	}
	a.resumeLoad(failed)
	if failed != nil && failed.Verdict == router.Overloaded && a.u.LearnsSlots() {
		a.replica.Queue().Overloaded()
	}
	a.wake(failed)
	return failed
}

func (s *run) newAttempt(candidate router.Candidate, last bool) *attempt {
	a := &attempt{run: s, u: s.upstreams[candidate.Target.Upstream], candidate: candidate, model: candidate.Target.ModelFor(s.rec.Model), started: time.Now(), last: last}
	a.replica = a.u.Replicas[candidate.Replica]
	a.target = a.u.Name + "/" + a.model
	ctx := s.ctx
	if s.Trace != nil {
		ctx, a.span = s.Trace(ctx, s.rec, a.summary(router.OK))
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	s.x.ReadLimits = exchange.ReadLimits{Idle: a.u.Timers.Idle}
	if total := a.u.Timers.Attempt(s.rec.Stream); total > 0 {
		s.x.ReadLimits.Due = a.started.Add(total)
	}
	if a.u.CanProbe() || !last && s.rec.Stream {
		a.promptTokens = s.promptTokens()
	}
	s.rec.Target, s.rec.Configured = a.target, candidate.Target // before a ping, whose headers may contain {llm.target}
	a.watchdog.start(a)
	s.register(a)
	s.Health.watchLoad(a.u, a.replica)
	return a
}

// smallBody is the size of a request body up to which its number of tokens is estimated from its size, in bytes.
const smallBody = 16 << 10

// promptTokens returns an estimate of the length of the prompt, which is quick for small requests.
func (s *run) promptTokens() int {
	request := s.template.JSON
	if request == nil {
		return 0 // a form has no prompt of a length that matters
	}
	if signals, read := request.SignalsRead(); read {
		return signals.PromptTokens
	}
	if len(request.Body) <= smallBody {
		return openai.EstimateTokens(len(request.Body))
	}
	return request.Signals().PromptTokens
}

func (a *attempt) close() {
	a.abandoned = a.atServer && (a.ctx.Err() != nil || a.rec.Verdict == router.ClientClosed)
	a.watchdog.stop()
	a.unregister(a)
	a.cancel(nil)
}

// leaveSlot gives the attempt's slot back. If the server may not have noticed that the gateway has left, that happens when the server's
// load shows that it has, or after a cautious time.
func (a *attempt) leaveSlot() {
	a.u.Touch(a.replica, a.model)
	lingers := time.Duration(0)
	if a.abandoned {
		lingers = a.u.Lingers(a.model, a.promptTokens, a.rec.Stream && a.firstContent > 0)
	}
	if lingers == 0 {
		a.slot.Release(a.used)
		return
	}
	time.AfterFunc(lingers, a.slot.Abandon(a.used).Release)
}

// perform sends the request, reads the answer until it is good enough to commit to, commits, and sends it to the client. Each step is a
// function of its own, because what perform and send have on the stack stays there while a stream is open.
func (a *attempt) perform() *failure {
	req, failed := a.prepare()
	if failed != nil {
		return failed
	}
	a.replica.Begin(a)
	defer a.replica.Finish(a)
	answer, failed := a.ask(req)
	if failed != nil {
		return failed
	}
	defer answer.Close()
	begun, err := a.client.Commit(a.ctx, answer.Streams())
	if err != nil {
		return a.fail(a.verdict(err), err)
	}
	a.template.Sent()
	a.send(answer, begun)
	return nil
}

// prepare returns the request, when the replica may get it.
func (a *attempt) prepare() (*http.Request, *failure) {
	if a.planned.LocalOnly && !a.u.IsLocal() { // the walk skips such targets; this check is a second line of defense
		return nil, a.fail(router.Misconfigured, errLocalOnly)
	}
	if failed := a.awaitLoad(); failed != nil {
		return nil, failed
	}
	if e := a.u.Prepare(&a.template, a.model); e != nil {
		return nil, a.untranslatable(e)
	}
	req := a.u.NewRequest(a.ctx, &a.template, a.replica, a.model)
	a.sent = req.Header
	return req, nil
}

// ask sends the request and returns the answer when it is good enough to commit to.
func (a *attempt) ask(req *http.Request) (relay.Answer, *failure) {
	if a.span != nil {
		a.span.Inject(req.Header)
	}
	a.atServer = true
	res, err := a.u.RoundTrip(req)
	if err != nil {
		return nil, a.fail(a.verdict(err), err)
	}
	a.status = res.StatusCode
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated { // some frameworks answer 201 to every POST
		a.atServer = false
		return nil, a.readError(res)
	}
	if err := a.u.TranslateAnswer(&a.template, res); err != nil {
		return nil, a.fail(a.verdict(err), err)
	}
	if c, ok := a.client.(exchange.Translator); ok {
		c.Pass(a.u.Passes(&a.template))
	}
	a.header = res.Header
	answer, err := relay.Hold(res, a.expect())
	if err != nil {
		return nil, a.reject(err)
	}
	a.u.LearnRefused(a.model, &a.template)
	return answer, nil
}

// untranslatable returns the failure of a request that the API of the target cannot express.
func (a *attempt) untranslatable(e *openai.Error) *failure {
	f := a.fail(router.Unsupported, e)
	f.status, f.body = e.Status, e.AppendJSON(nil)
	return f
}

func (a *attempt) expect() relay.Expect {
	request := a.template.JSON
	e := relay.Expect{Endpoint: a.x.Endpoint, Stream: a.rec.Stream, Choices: 1, Count: a.rec.Logged, Memory: a.Memory, Progress: a}
	if a.u.Passes(&a.template) {
		e.Endpoint, e.Events = a.template.Own.Endpoint, a.template.Own.Events
		return e
	}
	e.Whole, e.NameReasoning = a.x.Own != nil, a.u.NamesReasoning(&a.template)
	if form := a.planned.Body.Form; form != nil {
		e.Choices = form.Choices()
	}
	if request != nil {
		e.HideUsage = !request.IncludeUsage && !a.planned.Shared
		e.Choices = request.Choices()
		e.Base64 = a.x.Endpoint.Vectors && request.WantsBase64()
	}
	return e
}

// Read implements relay.Progress.
func (a *attempt) Read(contents int) {
	if !a.begun {
		a.begun = true
		a.releaseRequest()
	}
	a.watchdog.progress(contents > 0)
	if contents > 0 {
		a.replica.Progress()
		a.contents.Store(a.contents.Load() + int64(contents)) // nobody else writes it
	}
}

// releaseRequest releases the body of the request for a stream that may stay open for minutes, unless the answer's price depends on more
// than its signals. The client has its header: what placeholders there show of the request is known.
func (a *attempt) releaseRequest() {
	if a.rec.Stream && a.x.Endpoint.UsageOnRequest {
		a.planned.Body.Release()
	}
}

// Contents implements replica.Attempt.
func (a *attempt) Contents() int64 { return a.contents.Load() }

// Ending implements relay.Progress.
func (a *attempt) Ending(grace time.Duration) { a.watchdog.answerEnding(grace) }

// Opened implements relay.Progress.
func (a *attempt) Opened() { a.watchdog.opened() }

// send relays an answer that has been committed.
func (a *attempt) send(answer relay.Answer, begun bool) {
	a.announce(answer)
	if a.rec.Stream && a.Streaming != nil {
		a.Streaming(1)
		defer a.Streaming(-1)
	}
	a.finish(answer, answer.Send(a.client, begun))
}

// announce notes that there is an answer, and sets the headers of the response.
func (a *attempt) announce(answer relay.Answer) {
	rec := a.rec
	a.watchdog.committed()
	a.replica.Progress()
	rec.FirstContent, a.firstContent = time.Since(rec.Started), time.Since(a.started)
	rec.Status, rec.Verdict = http.StatusOK, router.OK
	if rec.Stream && a.forecast.Known {
		rec.Predicted, rec.Real = a.forecast.FirstToken, a.firstContent
		if !a.asked.IsZero() {
			rec.Real = time.Since(a.asked)
		}
	}
	header := a.client.Header()
	a.u.CopyHeaders(&a.template, header, a.header)
	if a.header = nil; answer.Streams() { // it may stay open for minutes, and the headers take more memory than their secrets
		a.secrets, a.sent = upstream.SecretsIn(a.sent), nil
	}
	a.x.SetAnswerHeaders(header, strconv.Itoa(len(rec.Attempts)+1))
	if a.compareUsage(answer.Meter()); rec.Warning != "" {
		header["X-Llm-Warning"] = []string{rec.Warning}
	}
}

// finish tells the client of an error that it could not see, and records what the answer used.
func (a *attempt) finish(answer relay.Answer, err error) {
	rec, truncated := a.rec, false // truncated: the client cannot see that the answer is incomplete
	a.atServer = err != nil
	if err != nil {
		e, sent := a.failAfterCommit(err)
		switch {
		case e == nil || sent:
		case answer.Streams():
			relay.SendError(a.client, e, answer.Meter().Response)
		default:
			truncated = true
		}
	}
	m := answer.Meter()
	rec.Events, rec.Bytes, rec.Chars = m.Events, m.Bytes, m.Text.Chars
	if !a.template.ByChat() {
		rec.ResponseID = m.Response.ID
	}
	a.recordUsage(m)
	if rec.Stream {
		a.compareUsage(m)
		a.learnPrefill()
	}
	a.recordCost()
	a.measure(m)
	if rec.Verdict == router.OK && m.Usage.Output > 0 {
		a.lengths.learn(a.target, m.Usage.Output/answersTo(a.template.JSON))
	}
	if truncated {
		panic(http.ErrAbortHandler)
	}
}

// learnPrefill learns from the answer how fast the model reads prompts.
func (a *attempt) learnPrefill() {
	if usage := a.rec.Usage; a.rec.HasUsage && !a.rec.Estimated {
		a.u.LearnPrefill(a.model, usage.Input-usage.Cached, a.firstContent)
	}
}

// measure notes what the request has used at the replica and how long that took, from which admission learns.
func (a *attempt) measure(m relay.Meter) {
	rec := a.rec
	if !rec.HasUsage {
		return
	}
	a.used = admission.Usage{
		Known: true, Complete: rec.Verdict == router.OK && !rec.Estimated,
		Prompt: int(rec.Usage.Input), Cached: int(rec.Usage.Cached), Output: int(rec.Usage.Output / answersTo(a.template.JSON)),
	}
	switch {
	case m.Timings.Prefill > 0: // what the server says leaves out the time to load the model
		a.used.Prefill, a.used.Decode = m.Timings.Prefill, m.Timings.Decode
	case rec.Stream:
		a.used.Prefill, a.used.Decode = a.firstContent, time.Since(a.started)-a.firstContent
	}
}

// recordUsage records what the upstream counted. What it did not count is estimated from the texts of the request and of as much of
// the answer as arrived: every prompt has a token, and every text.
func (a *attempt) recordUsage(m relay.Meter) {
	rec, request := a.rec, a.template.JSON
	rec.Usage, rec.HasUsage, rec.Estimated, rec.ServiceTier = m.Usage, m.HasUsage, false, m.ServiceTier
	endpoint := a.x.Endpoint
	switch {
	case endpoint.Transcribes && rec.Usage == tokens.Usage{}:
		rec.Usage.AudioMillis, rec.Estimated = estimateAudio(a.planned.Body.Size), true
	case endpoint.Speaks && request != nil:
		rec.Usage.Characters = int64(request.Characters())
	case endpoint.Ranks:
		rec.Usage.Searches = max(1, rec.Usage.Searches)
	}
	if !endpoint.Texts || request == nil {
		return
	}
	if rec.Usage.Input == 0 {
		rec.Usage.Input = int64(request.Signals().PromptTokens)
		rec.Estimated = true
	}
	if rec.Usage.Output == 0 && endpoint.Writes() && m.Text.Bytes > 0 {
		rec.Usage.Output = int64(openai.EstimateTokens(m.Text.Bytes))
		rec.Estimated = true
	}
	rec.HasUsage = true
}

// recordCost records what the answer costs at the target that gave it.
func (a *attempt) recordCost() {
	rec := a.rec
	price := a.Price(a.u, rec.Target, a.x.Endpoint, a.template.JSON)
	if price == nil {
		return
	}
	c := prices.Consumption{Usage: rec.Usage, Tier: rec.ServiceTier, Busy: time.Since(a.started)}
	if rec.Cost, rec.HasCost = price.Cost(c); rec.HasCost {
		rec.Saved = price.Saved(c)
	}
}

// failAfterCommit records why an answer broke off after the commit. It returns the error for the client, or nil if the client has
// left, and whether the client has already got the error.
func (a *attempt) failAfterCommit(err error) (e *openai.Error, sent bool) {
	rec := a.rec
	var client *relay.ClientError
	if errors.As(err, &client) || a.run.ctx.Err() != nil {
		rec.Verdict, rec.Status = router.ClientClosed, exchange.StatusClientClosed
		return nil, false
	}
	rec.Verdict = a.verdict(err)
	var event *relay.EventError
	name := "The upstream \"" + a.u.Name + "\""
	switch {
	case errors.As(err, &event):
		rec.Verdict, sent = a.u.ActualKind().ClassifyEvent(event.Value).Verdict, event.Sent
		parsed, _ := openai.ParseError(errorBody(event.Value))
		parsed.Status, parsed.Type = http.StatusBadGateway, cmp.Or(parsed.Type, exchange.ServerError)
		if parsed.Message = a.redactor().Redact(parsed.Message); parsed.Message == "" {
			parsed.Message = name + " reported a failure; the answer is not complete."
		}
		if rec.Verdict != router.ClientError && rec.Verdict != router.Unsupported {
			parsed.Details = nil
		}
		if a.u.Passes(&a.template) {
			parsed.Original = a.template.Own.API.ErrorBody(event.Value)
		}
		rec.Err = &parsed
	case errors.Is(context.Cause(a.ctx), errDraining):
		rec.Err = shuttingDown()
	case rec.Verdict == router.Timeout:
		rec.Err = upstreamTimeout(name + " stopped sending; the answer is not complete.")
	default:
		rec.Err = exchange.UpstreamError(name + " broke off" + because(reason(a.status, nil, err, a.redactor())) + "; the answer is not complete.")
	}
	if a.Observe != nil {
		ended := a.summary(rec.Verdict)
		ended.Err, ended.Blameless = a.withCause(err), a.isBlameless()
		a.Observe(rec, ended)
	}
	return rec.Err, sent
}

// record records how the attempt ended.
func (a *attempt) record(failed *failure) {
	a.watchdog.stop() // pings may read the record
	ended, outcome := a.summary(a.rec.Verdict), router.Outcome{Verdict: a.rec.Verdict}
	ended.Blameless = a.isBlameless()
	if failed != nil {
		outcome, ended.Err = failed.Outcome, failed.err
		ended.Verdict, a.rec.Verdict = failed.Verdict, failed.Verdict
	}
	a.report(outcome)
	a.rec.AddAttempt(ended)
	if a.span != nil {
		a.span.End(a.rec, ended)
	}
	if failed != nil && a.Observe != nil {
		a.Observe(a.rec, ended)
	}
}

func (a *attempt) summary(v router.Verdict) exchange.Attempt {
	return exchange.Attempt{
		Target: a.target, Configured: a.candidate.Target, Address: a.replica.Address,
		Verdict: v, Status: a.status, Duration: time.Since(a.started),
	}
}

// isBlameless reports whether a failure says nothing about the replica, for example because the gateway ended the attempt.
func (a *attempt) isBlameless() bool {
	return a.blameless || isAny(context.Cause(a.ctx), errDraining, errDeadline, errNotRead)
}

// report tells the replica how the attempt ended, unless it says nothing about the replica because the gateway ended it.
func (a *attempt) report(o router.Outcome) {
	if a.isBlameless() {
		return
	}
	if change, changed := a.replica.Report(a.model, o, a.u.CanProbe()); changed {
		a.Health.notify(a.u, a.replica, change)
	}
	if o.Verdict != router.OK {
		a.Health.Watch(a.u, a.replica)
	}
	if errors.Is(context.Cause(a.ctx), errSilent) {
		a.Health.suspect(a.u, a.replica)
	}
}

// readError reads an error response.
func (a *attempt) readError(res *http.Response) *failure {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil && a.ctx.Err() != nil {
		return a.fail(a.verdict(err), err)
	}
	return a.failWith(a.u.ClassifyAnswer(&a.template, res.StatusCode, res.Header, body), res.StatusCode, body)
}

// reject returns the failure of a response with status 200 that cannot be committed.
func (a *attempt) reject(err error) *failure {
	var event *relay.EventError
	if !errors.As(err, &event) {
		return a.fail(a.verdict(err), err)
	}
	return a.failWith(a.u.ClassifyEvent(&a.template, event.Value), http.StatusOK, errorBody(event.Value))
}

// failWith returns the failure of an upstream that reported an error, and learns from the error.
func (a *attempt) failWith(what upstream.Finding, status int, body []byte) *failure {
	f := a.fail(what.Verdict, a.logError(status, body))
	f.Finding, f.body, f.passes = what, body, a.u.Passes(&a.template)
	a.learnContextWindow(what)
	return f
}

// logError returns an upstream's error for the log. Its message may quote the client and is included only if prompts are logged. The
// message of a 401 may quote the gateway's API key and is never included.
func (a *attempt) logError(status int, body []byte) error {
	if a.LogPrompts > 0 && status != http.StatusUnauthorized {
		return fmt.Errorf("status %d: %.300q", status, body)
	}
	parsed, _ := openai.ParseError(body)
	return fmt.Errorf("status %d, type %.60q, code %.60q", status, parsed.Type, parsed.Code)
}

// redactor returns what removes secrets, addresses and the prompt from the upstream's words.
func (a *attempt) redactor() *upstream.Redactor {
	secrets := a.secrets
	if a.sent != nil {
		secrets = upstream.SecretsIn(a.sent)
	}
	return &upstream.Redactor{Secrets: secrets, Request: a.template.JSON, Model: a.model}
}

func errorBody(value []byte) []byte {
	return append(append([]byte(`{"error":`), value...), '}')
}

func (a *attempt) fail(v router.Verdict, err error) *failure {
	return &failure{Finding: upstream.Finding{Outcome: router.Outcome{Verdict: v}}, upstream: a.u.Name, target: a.target, configured: a.candidate.Target, status: a.status, err: a.withCause(err)}
}

// withCause adds the reason why the attempt was ended to the error that followed from that.
func (a *attempt) withCause(err error) error {
	if cause := context.Cause(a.ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// verdict returns the verdict for an attempt that failed with err and without an error from the upstream.
func (a *attempt) verdict(err error) router.Verdict {
	var connect *upstream.ConnectError
	var encoding *upstream.EncodingError
	switch {
	case a.run.ctx.Err() != nil:
		return router.ClientClosed
	case isAny(context.Cause(a.ctx), errSilent, errTimeout, errDeadline, errStuck):
		return router.Timeout
	case errors.As(err, &connect):
		return router.Unreachable
	case relay.IsUnfit(err), errors.As(err, &encoding), errors.Is(err, exchange.ErrStreamBegun):
		return router.Unsupported
	}
	return router.Failed
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}
