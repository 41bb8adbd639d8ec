package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// takeSlot takes a slot at one of the step's candidates. If none is free, it waits in the admission queue. It reports false if the
// queue is full, if no slot became free in time, if another pool is expected to be quicker, if the answer is no longer wanted, or if the
// process is shutting down.
func (s *run) takeSlot(step router.Step) (router.Candidate, bool) {
	if step.Final { // the pools that were expected to be quicker have failed
		s.settleSpill(0)
		s.rec.Route, s.pool = s.route, step.Pool
	}
	if s.sendOn(step) || s.leaveCold(step) {
		return router.Candidate{}, false
	}
	s.forecast, s.asked = admission.Forecast{}, time.Time{}
	if candidate, ok := s.walk.Take(step, func(c router.Candidate) bool { return s.takeAt(c, step.Force) }); ok {
		return candidate, true
	}
	return s.waitForSlot(step)
}

// waitForSlot waits in the admission queue for a slot at one of the step's candidates.
func (s *run) waitForSlot(step router.Step) (router.Candidate, bool) {
	began, before := time.Now(), s.last
	candidates := s.walk.Candidates(step)
	places := s.places(candidates)
	s.describeFully()
	ticket, ok := admission.Enqueue(&s.slot, s.walk.LastPool() || !s.coversSpill(step), places)
	if !ok {
		s.leavePool(step, 0, places)
		return router.Candidate{}, false
	}
	s.forecast, s.asked = ticket.First, began
	defer func() { s.rec.Queue += time.Since(began) }()
	defer ticket.Leave()
	index, received, err := s.waitForTicket(step, ticket)
	switch {
	case received && index >= 0:
		s.walk.Begin(step, candidates[index])
		return candidates[index], true
	case received: // another request took the position in the queue
		s.leavePool(step, 0, places)
	case err == nil && s.last == before: // it has not left for another pool
		s.leavePool(step, time.Since(began), places)
	}
	return router.Candidate{}, false
}

// waitForTicket waits until a ticket has got a slot or lost its position. If the model's requests should not wait so long here, it waits
// for that time only, and then leaves for the next pool.
func (s *run) waitForTicket(step router.Step, ticket *admission.Ticket) (index int, received bool, err error) {
	longest := ticket.MaxWait
	spill, next := s.walk.Spill(step)
	if spill == nil || spill.After >= longest {
		return s.waitAndTell(ticket, s.untilDeadline(longest))
	}
	index, received, err = s.waitAndTell(ticket, s.untilDeadline(spill.After))
	if received || err != nil || s.mustStop() {
		return index, received, err
	}
	if s.paySpill(spill, next) {
		s.leaveForQuicker(step)
		return index, received, err
	}
	return s.waitAndTell(ticket, s.untilDeadline(longest-spill.After))
}

// tellEvery is how often the client of a stream is told its place in the queue, if it asks for that.
const tellEvery = 5 * time.Second

// waitAndTell waits for a ticket, and tells the client its place meanwhile if it asks for that.
func (s *run) waitAndTell(ticket *admission.Ticket, limit time.Duration) (index int, received bool, err error) {
	if !s.x.WantsPosition() {
		return wait(s, ticket.Granted(), limit)
	}
	for due := time.Now().Add(limit); ; {
		if f := ticket.Forecast(); f.Position > 0 {
			s.client.Comment(placeInQueue(f))
		}
		left := time.Until(due)
		index, received, err = wait(s, ticket.Granted(), min(left, tellEvery))
		if received || err != nil || left <= tellEvery {
			return index, received, err
		}
	}
}

// placeInQueue returns a place in the queue as clients are told it: "queued position=3 wait=12s", without the wait if it is unknown.
func placeInQueue(f admission.Forecast) string {
	text := "queued position=" + strconv.Itoa(f.Position)
	if f.Known {
		text += fmt.Sprintf(" wait=%.0fs", f.Wait.Seconds())
	}
	return text
}

// places returns candidates as places where the request may wait.
func (s *run) places(candidates []router.Candidate) []admission.Place {
	places := make([]admission.Place, len(candidates))
	for i, c := range candidates {
		u := s.upstreams[c.Target.Upstream]
		places[i] = u.Place(c.Replica, u.OwnName(c.Target.ModelFor(s.rec.Model)))
	}
	return places
}

// sendOn reports whether the request is sent on to the next pool before it has waited, because its first token is expected to take too
// long here and not there.
func (s *run) sendOn(step router.Step) bool {
	spill, next := s.walk.Spill(step)
	if spill == nil {
		return false
	}
	s.describeFully()
	here := s.slot.Forecast(s.places(s.walk.Candidates(step)))
	if !spill.Decide(s.slot.Caller, here) || !s.isQuicker(next, here) || !s.paySpill(spill, next) {
		return false
	}
	s.leaveForQuicker(step)
	return true
}

// isQuicker reports whether the first token is expected sooner at one of the candidates. An upstream without a queue is: it is the
// operator who says that requests should go there instead.
func (s *run) isQuicker(next []router.Candidate, here admission.Forecast) bool {
	there := s.slot.Forecast(s.places(next))
	if there.Known {
		return there.FirstToken < here.FirstToken
	}
	return there.Position == 0
}

// leaveForQuicker leaves a pool for one that is expected to be quicker. If that fails, the request comes back.
func (s *run) leaveForQuicker(step router.Step) {
	s.walk.Defer(step)
	s.last = &failure{spill: true}
}

// coversSpill reports whether the request may leave the step's pool because of load.
func (s *run) coversSpill(step router.Step) bool {
	spill, next := s.walk.Spill(step)
	budget := s.SpillBudgets[spill]
	if budget == nil {
		return true
	}
	least, _, metered := s.costAt(next)
	return metered && (least == 0 || budget.Covers(s.ctx, least))
}

// paySpill reserves what the request is likely to cost in the next pool from the budget for that. It reports false if that is not covered.
func (s *run) paySpill(spill *admission.Spill, next []router.Candidate) bool {
	s.settleSpill(0)
	budget := s.SpillBudgets[spill]
	if budget == nil {
		return true
	}
	least, likely, metered := s.costAt(next)
	if !metered || likely == 0 {
		return metered
	}
	settle, ok := budget.Pay(s.ctx, least, likely)
	s.spillPaid = settle
	return ok
}

// costAt returns what the request costs at the most expensive of the candidates, and whether that can be metered at all of them.
func (s *run) costAt(candidates []router.Candidate) (least, likely float64, metered bool) {
	metered = true
	for _, c := range candidates {
		o := s.offer(c.Target)
		metered = metered && (s.AllowUnmetered || o.canMeter())
		l, m := o.costs()
		least, likely = max(least, l), max(likely, m)
	}
	return least, likely, metered
}

// settleSpill replaces what was reserved for the request in a later pool by what it really cost there.
func (s *run) settleSpill(cost float64) {
	if s.spillPaid != nil {
		s.spillPaid(cost)
		s.spillPaid = nil
	}
}

// takeAt takes a slot at a candidate if one is free.
func (s *run) takeAt(c router.Candidate, force bool) bool {
	u := s.upstreams[c.Target.Upstream]
	bounded := u.NeedsRequest(c.Replica)
	if bounded {
		s.describe()
	}
	if !u.Take(c.Replica, u.OwnName(c.Target.ModelFor(s.rec.Model)), force, &s.slot) {
		return false
	}
	if bounded && s.rec.Stream {
		s.forecast = s.slot.Begun()
	}
	return true
}

// describe says of the request what admission must know, as far as that is known without reading all of its body.
func (s *run) describe() {
	if s.described {
		return
	}
	s.described = true
	s.slot = admission.Slot{Request: s.Describe(s.x)}
	s.slot.Prompt = s.promptTokens()
}

// Describe returns what admission must know of the sender of a request.
func (d *Delivery) Describe(x *exchange.Exchange) admission.Request {
	rec := x.Record
	q := admission.Request{ID: rec.ID, Name: rec.Model, Caller: admission.Caller{Key: rec.Identity}, Priority: rec.Priority, Weight: rec.Weight}
	if rec.Identity == "" && d.Address != nil {
		q.Caller.Address = d.Address(x.Request)
	}
	return q
}

// describeFully says all that admission can use, for a request that has to wait anyway.
func (s *run) describeFully() {
	s.describe()
	if request := s.template.JSON; request != nil {
		signals := request.Signals()
		s.slot.Prompt, s.slot.MaxOutput = signals.PromptTokens, signals.MaxTokens
	}
}

// leavePool records that a pool had no free slot in time. No upstream has seen the request. If it may not go on to another pool, because
// the budget for that is used up, it ends here.
func (s *run) leavePool(step router.Step, waited time.Duration, places []admission.Place) {
	if spill, next := s.walk.Spill(step); spill != nil && !s.paySpill(spill, next) {
		s.refused = true
	}
	s.walk.Skip(step)
	s.keep(&failure{
		Finding: upstream.Finding{Outcome: router.Outcome{Verdict: router.Overloaded, RetryAfter: retryAfterQueue(waited, s.slot.Forecast(places))}},
		spill:   true, waited: waited,
	})
}

// The bounds of Retry-After for a request that got no slot. SDKs ignore a wait of more than a minute.
const (
	minQueueRetry     = time.Second
	maxQueueRetry     = 30 * time.Second
	maxPredictedRetry = time.Minute
)

// retryAfterQueue returns the predicted wait of a request that got no slot. If that is unknown, it is a fraction of the time that the
// request waited in vain: by then, some of the requests ahead of it will have finished.
func retryAfterQueue(waited time.Duration, f admission.Forecast) time.Duration {
	if f.Known {
		return min(max(f.Wait, minQueueRetry), maxPredictedRetry)
	}
	return min(max(waited/4, minQueueRetry), maxQueueRetry)
}

// Agents that use the Responses API end their turn if a request is refused, or after a few attempts: Codex 0.120 repeats none after status
// 429, and 0.171 five times. So a stream of the Responses API that gets no place in an admission queue is held, and pinged like one that waits
// there. This is decided by what was asked for, not by who asks: the events of such a stream can say later what went wrong
// (response.failed), and the names of agents and their forks are many.
const (
	// maxHeld bounds how many requests are held at once. A held one has no place in a queue, and those that come later may get one first.
	maxHeld = 64
	// holdPause is the time between two attempts to get a place.
	holdPause = time.Second
	// longestHold is the longest wait for a place, unless the configuration of a queue says otherwise.
	longestHold = 5 * time.Minute
)

// hold waits before another attempt to get a place in the queues, all of which have refused the request. It reports false if the request
// is not held.
func (s *run) hold() bool {
	f := s.mostInformative
	if f == nil || !f.spill || !s.holdable() || len(s.rec.Attempts) > 0 || s.mustStop() {
		return false
	}
	left := s.untilDeadline(time.Until(s.began.Add(s.longestHold())))
	if left <= 0 {
		if s.held {
			f.waited = time.Since(s.began)
		}
		return false
	}
	if !s.held {
		if s.holding.Add(1) > maxHeld {
			s.holding.Add(-1)
			return false
		}
		s.held = true
	}
	began := time.Now()
	_, _, err := wait[struct{}](s, nil, min(left, holdPause))
	s.rec.Queue += time.Since(began)
	s.restart()
	return err == nil
}

// holdable reports whether a request may be held.
func (s *run) holdable() bool { return s.x.Endpoint.IsResponses() && s.rec.Stream }

// release ends the holding of a request.
func (s *run) release() {
	if s.held {
		s.holding.Add(-1)
	}
}

// longestHold returns how long the request may wait for a place: as long as in the queue that lets requests wait longest. It is zero if
// there is no queue.
func (s *run) longestHold() (longest time.Duration) {
	s.planned.Plan.Any(s.planned.LocalOnly, func(t router.Target) bool {
		switch queue := s.upstreams[t.Upstream].Group.Queue; {
		case queue.Size == 0:
		case queue.MaxWait == 0:
			longest = max(longest, longestHold)
		default:
			longest = max(longest, queue.MaxWait)
		}
		return false
	})
	return longest
}

// refuseHeld gives the error of a refused stream of the Responses API the status that agents repeat requests after.
func (s *run) refuseHeld(e *openai.Error) {
	if s.holdable() {
		e.Status = http.StatusServiceUnavailable
	}
}

// pause waits before a step: for as long as the step says or, if its candidate is loading, until that is ready. It reports false if
// that takes too long, if the answer is no longer wanted, or if the process is shutting down.
func (s *run) pause(step router.Step) bool {
	if step.Wait == 0 {
		return true
	}
	began := time.Now()
	defer func() { s.rec.Paused += time.Since(began) }()
	if step.Loading {
		candidate := s.walk.Candidates(step)[0]
		if u := s.upstreams[candidate.Target.Upstream]; u.CanProbe() {
			_, received, _ := wait(s, u.Replicas[candidate.Replica].WhenReady(), s.untilDeadline(u.LoadTimeout()))
			return received
		}
	}
	if deadline := s.planned.Deadline; !deadline.IsZero() && time.Until(deadline) < step.Wait {
		return false
	}
	_, _, err := wait[struct{}](s, nil, step.Wait)
	return err == nil
}

// untilDeadline returns wait, or the time until the request's deadline if that is shorter.
func (s *run) untilDeadline(wait time.Duration) time.Duration {
	if s.planned.Deadline.IsZero() {
		return wait
	}
	return min(wait, time.Until(s.planned.Deadline))
}

var errNotWanted = errors.New("the client left, or the gateway is shutting down")

// wait receives from a channel, for at most limit, and pings the client meanwhile. It reports received = false after that time. It
// fails with errNotWanted if the answer is no longer wanted or the process is shutting down.
func wait[T any](s *run, channel <-chan T, limit time.Duration) (value T, received bool, err error) {
	expired := time.NewTimer(limit)
	defer expired.Stop()
	ping := time.NewTimer(s.x.UntilPing(s.client, time.Now()))
	defer ping.Stop()
	var drained <-chan struct{}
	if s.Draining != nil {
		drained = s.Draining.Done()
	}
	for {
		select {
		case value = <-channel:
			return value, true, nil
		case <-expired.C:
			return value, false, nil
		case <-ping.C:
			s.client.Ping()
			ping.Reset(exchange.PingEvery)
		case <-s.ctx.Done():
			return value, false, errNotWanted
		case <-drained:
			return value, false, errNotWanted
		}
	}
}
