package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// deliver walks the plan: one attempt after the other until one was committed to, or the failure is the caller's own.
func (c *call) deliver(plan *router.Plan) {
	c.up.Endpoint, c.up.ID, c.up.Header = c.task.endpoint, c.rec.ID, c.r.Header
	walk := router.Walk{Plan: plan}
	c.rec.Route = plan.Rule
	pool := 0
	var last *failure
	for {
		candidate, at, ok := walk.Next()
		if !ok {
			c.giveUp(last)
			return
		}
		if at > pool && last != nil {
			pool = at
			c.rec.Route = "fallback:" + last.verdict.String()
		}
		last = c.try(candidate, walk.Last())
		if last == nil {
			return
		}
		if !last.verdict.TryNext() || c.g.draining() {
			c.giveUp(last)
			return
		}
	}
}

// A failure is an attempt that ended before anything was committed.
type failure struct {
	verdict  router.Verdict
	upstream string
	status   int    // what the upstream answered, zero if it did not
	body     []byte // the error it answered with
	header   http.Header
	err      error
}

// try makes one attempt and writes it into the record; nil means that the client got its answer, or as much of it as came.
func (c *call) try(candidate router.Candidate, last bool) *failure {
	start := time.Now()
	a := c.attempt(candidate, last)
	candidate.Replica.Begin()
	defer candidate.Replica.End()
	defer a.close()
	failed := a.run()
	done := Attempt{
		Target: a.target(), Address: candidate.Replica.Address, Status: a.status, Duration: time.Since(start), Verdict: c.rec.Verdict,
	}
	if failed != nil {
		done.Verdict, done.Err = failed.verdict, failed.err
		c.rec.Verdict = failed.verdict
	}
	c.rec.Attempts = append(c.rec.Attempts, done)
	if failed != nil && c.g.Observe != nil {
		c.g.Observe(c.rec, done)
	}
	return failed
}

// announce sets the headers that say where the answer comes from; they are sent when it is committed to.
func (c *call) announce(attempts int) {
	h := c.w.Header()
	h["X-Llm-Target"] = []string{c.rec.Target}
	h["X-Llm-Route"] = []string{c.rec.Route}
	h["X-Llm-Attempts"] = []string{strconv.Itoa(attempts)}
}

// giveUp tells the client of the last failure.
func (c *call) giveUp(last *failure) {
	if last == nil {
		c.fail(noUpstream("No upstream is there to answer for this model."))
		return
	}
	if last.verdict == router.Gone {
		c.gone()
		return
	}
	c.announce(len(c.rec.Attempts))
	if c.g.draining() && last.verdict.TryNext() {
		c.fail(shuttingDown())
		return
	}
	if after := last.header.Get("Retry-After"); after != "" && last.verdict == router.Busy {
		c.w.Header()["Retry-After"] = []string{after}
	}
	c.fail(last.tell())
}

// tell puts a failure into the words and the status that SDKs expect. What the upstream said of the request itself
// reaches the client; what it said of our key or itself does not.
func (f *failure) tell() *wire.Error {
	name := "The upstream " + strconv.Quote(f.upstream)
	switch f.verdict {
	case router.Caller, router.FitsElsewhere:
		return f.theirWords()
	case router.NotUp:
		return noUpstream(name + " cannot be reached, or is still loading its model. Try again in a moment.")
	case router.Busy:
		if f.status == http.StatusTooManyRequests {
			return &wire.Error{Status: f.status, Type: "rate_limit_error", Code: "rate_limit_exceeded", Message: name + " has reached its limit. Try again later."}
		}
		return noUpstream(name + " is overloaded. Try again in a moment.")
	case router.Config:
		if f.status == http.StatusNotFound || f.status == http.StatusBadRequest {
			return &wire.Error{Status: http.StatusNotFound, Type: invalidRequest, Param: "model", Code: "model_not_found",
				Message: name + " does not have the model that this gateway asks it for."}
		}
		return upstreamError(name + " refuses this gateway's credentials. Its configuration must be mended.")
	case router.Slow:
		return upstreamTimeout(name + " did not begin to answer in time.")
	}
	return upstreamError(name + " failed before it answered.")
}

// theirWords is the upstream's own error, in OpenAI's shape.
func (f *failure) theirWords() *wire.Error {
	message, kind, code, param, ok := wire.ErrorOf(f.body)
	if !ok || message == "" {
		message = "The upstream " + strconv.Quote(f.upstream) + " refused the request with status " + strconv.Itoa(f.status) + "."
	}
	if kind == "" {
		kind = invalidRequest
	}
	status := f.status
	if status < 400 || status >= 500 {
		status = http.StatusBadRequest // llama.cpp says 500 of an image it cannot see; SDKs would send it again
	}
	return &wire.Error{Status: status, Type: kind, Code: code, Param: param, Message: message}
}
