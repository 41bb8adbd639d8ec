package gateway

import (
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// deliver walks the plan: one attempt after the other until one was committed to, or the failure is the caller's own, or
// nothing is left.
func (c *call) deliver(plan *router.Plan) {
	c.up.Endpoint, c.up.ID, c.up.Header = c.task.endpoint, c.rec.ID, c.r.Header
	d := delivery{call: c, walk: router.Walk{Plan: plan, Model: c.rec.Model, LocalOnly: c.localOnly, Priority: c.rec.Priority, Misfit: c.misfit(plan)}}
	for {
		turn, ok := d.walk.Next()
		if !ok || !d.pause(turn) {
			break
		}
		candidate, ok := d.slot(turn)
		if !ok {
			if d.hopeless() {
				break
			}
			continue
		}
		d.enter(turn.Pool)
		d.clamp(candidate)
		failed := c.try(candidate, d.walk.Last())
		if failed == nil {
			return
		}
		d.walk.Failed(failed.Outcome())
		d.note(failed)
		if !failed.Verdict.TryNext() || d.hopeless() {
			break
		}
	}
	c.giveUp(d.telling)
}

// A delivery is a call on its way through the plan.
type delivery struct {
	*call
	walk router.Walk
	pool int
	// last is the failure of the last attempt, telling the one that says most to the client.
	last, telling *failure
}

// hopeless tells that no attempt can be made any more: nobody is there to answer to, or no time is left.
func (d *delivery) hopeless() bool {
	return d.r.Context().Err() != nil || d.g.draining() || !d.deadline.IsZero() && !time.Now().Before(d.deadline)
}

// pause leaves the candidate alone for as long as the turn says, or until it has loaded; false when the client leaves meanwhile,
// when that takes too long, or longer than the request's deadline.
func (d *delivery) pause(turn router.Turn) bool {
	if turn.Wait == 0 {
		return true
	}
	if d.hurried {
		return false
	}
	began := time.Now()
	defer func() { d.rec.Paused += time.Since(began) }()
	if turn.Loading {
		candidate := d.walk.Candidate(turn)
		if u := d.g.upstreams[candidate.Target.Upstream]; u.Probes() {
			_, came, _ := wait(d.call, candidate.Replica.BecomesReady(), d.atMost(u.LoadTimeout()))
			return came
		}
	}
	if !d.deadline.IsZero() && time.Until(d.deadline) < turn.Wait {
		return false
	}
	_, _, err := wait[struct{}](d.call, nil, turn.Wait)
	return err == nil
}

// drained is closed when the process is about to end.
func (c *call) drained() <-chan struct{} {
	if c.g.Draining == nil {
		return nil
	}
	return c.g.Draining.Done()
}

// enter notes that a later pool is begun with, and why.
func (d *delivery) enter(pool int) {
	switch {
	case pool <= d.pool:
	case d.last != nil && d.last.spill:
		d.rec.Route = "spill"
	case d.last != nil:
		d.rec.Route = "fallback:" + d.last.Verdict.String()
	case d.walk.Unfit(d.pool):
		d.rec.Route = "fallback:" + router.FitsElsewhere.String()
	case d.walk.Passed(d.pool) != router.OK:
		d.rec.Route = "fallback:" + d.walk.Passed(d.pool).String()
	}
	d.pool = pool
}

// note keeps what the client may have to be told, and what the next attempt is to know of the last.
func (d *delivery) note(f *failure) {
	d.last = f
	if d.telling == nil || f.Verdict.Telling(d.telling.Verdict) {
		d.telling = f
	}
}

// clamp bounds the output by what the target has just said that it allows; what another one allows, is another matter.
func (d *delivery) clamp(candidate router.Candidate) {
	d.up.MaxOutput = 0
	if d.last != nil && d.last.Verdict == router.Fixable && d.last.configured == candidate.Target {
		d.up.MaxOutput = d.last.MaxOutput
	}
}

// try makes one attempt and writes it into the record; nil means that the client got its answer, or as much of it as came.
func (c *call) try(candidate router.Candidate, last bool) *failure {
	a := c.attempt(candidate, last)
	defer candidate.Replica.End()
	defer a.close()
	var failed *failure
	defer func() { a.over(failed) }() // also when an answer breaks off that cannot tell its end
	failed = a.run()
	a.reload(failed)
	return failed
}

// over writes the attempt into the record.
func (a *attempt) over(failed *failure) {
	c := a.c
	a.patience.stop() // no sign of life is sent while the record changes
	done, outcome := a.done(c.rec.Verdict), router.Outcome{Verdict: c.rec.Verdict}
	if failed != nil {
		outcome, done.Err = failed.Outcome(), failed.err
		done.Verdict, c.rec.Verdict = failed.Verdict, failed.Verdict
	}
	a.took(outcome)
	if c.rec.Attempts == nil {
		c.rec.Attempts = c.rec.first[:0]
	}
	c.rec.Attempts = append(c.rec.Attempts, done)
	if a.span != nil {
		a.span.End(c.rec, done)
	}
	if failed != nil && c.g.Observe != nil {
		c.g.Observe(c.rec, done)
	}
}

func (a *attempt) done(v router.Verdict) Attempt {
	return Attempt{
		Target: a.target, Configured: a.candidate.Target, Address: a.candidate.Replica.Address,
		Verdict: v, Status: a.status, Duration: time.Since(a.started),
	}
}

// announce sets the headers that say where the answer comes from; they are sent when it is committed to.
func (c *call) announce(attempts string) {
	if c.rec.Target != "" { // of a request that nobody was asked
		c.say(&c.said.target, "X-Llm-Target", c.rec.Target)
	}
	c.say(&c.said.route, "X-Llm-Route", c.rec.Route)
	c.say(&c.said.attempts, "X-Llm-Attempts", attempts)
	c.announceQueue()
}

// tried tells what was tried and how it ended: "2; gpu/llama3 not_up, openai/gpt-4o busy".
func (c *call) tried() string {
	b := strconv.AppendInt(nil, int64(len(c.rec.Attempts)), 10)
	for i, a := range c.rec.Attempts {
		separator := ", "
		if i == 0 {
			separator = "; "
		}
		b = append(append(append(append(b, separator...), a.Target...), ' '), a.Verdict.String()...)
	}
	return string(b)
}

// giveUp tells the client of the failure that says most.
func (c *call) giveUp(f *failure) {
	switch {
	case c.r.Context().Err() != nil:
		c.gone()
		return
	case f == nil && c.g.draining():
		c.fail(shuttingDown())
		return
	case f == nil:
		c.fail(noUpstream("No upstream is there to answer for this model."))
		return
	}
	c.rec.Verdict, c.rec.Target, c.rec.Configured = f.Verdict, f.target, f.configured
	c.announce(c.tried())
	if c.g.draining() && f.Verdict.TryNext() {
		c.fail(shuttingDown())
		return
	}
	if f.Verdict == router.Busy && f.RetryAfter > 0 {
		c.w.Header()["Retry-After"] = []string{seconds(f.RetryAfter)}
	}
	told := f.tell()
	if c.localOnly && f.Verdict.TryNext() {
		told.Message += " The request must not leave the gateway's own machines, so that nothing else was tried."
	}
	c.fail(told)
}

// seconds is a wait as Retry-After has it, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
