package delivery

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// countTimeout bounds the wait for a server that counts the tokens of a prompt. Clients wait for the number before they send the prompt,
// and an estimate is good enough for them.
const countTimeout = 2 * time.Second

// tokenizeTimeout is the same for a client that wants the tokens, which nobody can estimate.
const tokenizeTimeout = 20 * time.Second

// A Count is how many tokens a prompt has.
type Count struct {
	// Answer is what the upstream said. If it is nil, the upstream could not say, and Estimate is all there is.
	Answer   *upstream.Count
	Estimate int
	// Window is the context window of the model in tokens, or zero if it is unknown.
	Window int
}

// Count counts the tokens of a prompt at the target where it would be sent next. It asks no other one, because that has another tokenizer,
// and may be a service that is not meant to read the prompt. It takes no slot, waits in no queue, and says nothing about the health of the
// upstream. The error is the upstream's own, for an invalid request.
func (d *Delivery) Count(ctx context.Context, x *exchange.Exchange, planned *exchange.PlannedRequest) (Count, *openai.Error) {
	rec := x.Record
	defer func() {
		made := strconv.Itoa(len(rec.Attempts))
		if rec.Target == "" { // an estimate: how the attempt failed
			made = attempts(rec)
		}
		x.SetAnswerHeaders(x.Writer.Header(), made)
	}()
	estimate := Count{Estimate: planned.Body.JSON().Signals().PromptTokens}
	walk := router.Walk{Plan: planned.Plan, Model: rec.Model, LocalOnly: planned.LocalOnly, Fits: d.fits(x, planned)}
	step, ok := walk.Next()
	if !ok || d.draining() {
		return estimate, nil
	}
	candidate, _ := walk.Take(step, func(router.Candidate) bool { return true })
	u, model := d.upstreams[candidate.Target.Upstream], candidate.Target.ModelFor(rec.Model)
	estimate.Estimate, estimate.Window = u.CorrectEstimate(model, estimate.Estimate), u.Capabilities(model).ContextWindow
	if step.Force { // it is unhealthy, or loading
		return estimate, nil
	}
	template := upstream.Template{
		Endpoint: x.Endpoint, Own: x.Own, ID: rec.ID, Header: x.Request.Header, Memory: planned.Body.Memory(),
		JSON: planned.Body.JSON(), Original: planned.Body.Original(), Passable: true,
	}
	replica := u.Replicas[candidate.Replica]
	at := exchange.Attempt{Target: u.Name + "/" + model, Configured: candidate.Target, Address: replica.Address, Blameless: true}
	began := time.Now()
	limit := countTimeout
	if x.Endpoint == openai.Tokenize {
		limit = tokenizeTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := u.CountTokens(bounded, &template, replica, model)
	if err == upstream.ErrCannotCount {
		return estimate, nil
	}
	at.Duration, at.Err = time.Since(began), err
	switch {
	case ctx.Err() != nil:
		return estimate, exchange.ErrClientClosed
	case bounded.Err() != nil:
		at.Verdict = router.Timeout
	case err != nil:
		at.Verdict = router.Failed
	default:
		at.Status = answer.Status
		if answer.Status != http.StatusOK {
			at.Verdict = u.ActualKind().Classify(answer.Status, answer.Header, answer.Body).Verdict
		}
	}
	rec.AddAttempt(at)
	switch at.Verdict {
	case router.Unsupported, router.ClientError:
		if at.Status == http.StatusNotFound || at.Status == http.StatusMethodNotAllowed { // it does not have the endpoint
			return estimate, nil
		}
	}
	switch at.Verdict {
	case router.OK:
		rec.Target, rec.Configured = at.Target, at.Configured
		u.CopyHeaders(&template, x.Writer.Header(), answer.Header)
		return Count{Answer: answer, Window: estimate.Window}, nil
	case router.ClientError, router.Unsupported, router.Adjustable:
		rec.Target, rec.Configured = at.Target, at.Configured
		f := failure{upstream: u.Name, status: answer.Status, body: answer.Body, passes: x.Own != nil}
		f.Verdict = at.Verdict
		return estimate, f.apiError()
	}
	return estimate, nil
}
