package delivery

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// takeSlot takes a slot at one of the step's candidates. If none is free, it waits in the admission queue. It reports false if the
// queue is full, if no slot became free in time, if the answer is no longer wanted, or if the process is shutting down.
func (s *run) takeSlot(step router.Step) (router.Candidate, bool) {
	if candidate, ok := s.walk.Take(step, func(c router.Candidate) bool { return s.takeAt(c, step.Force) }); ok {
		return candidate, true
	}
	began := time.Now()
	candidates := s.walk.Candidates(step)
	places := make([]admission.Place, len(candidates))
	for i, c := range candidates {
		places[i] = s.upstreams[c.Target.Upstream].Place(c.Replica, c.Target.ModelFor(s.rec.Model))
	}
	s.describeFully()
	ticket, ok := admission.Enqueue(&s.slot, s.walk.LastPool(), places)
	if !ok {
		s.leavePool(step, 0, places)
		return router.Candidate{}, false
	}
	defer func() { s.rec.Queue += time.Since(began) }()
	defer ticket.Leave()
	index, received, err := wait(s, ticket.Granted(), s.untilDeadline(ticket.MaxWait))
	switch {
	case received && index >= 0:
		s.walk.Begin(step, candidates[index])
		return candidates[index], true
	case received: // another request took the position in the queue
		s.leavePool(step, 0, places)
	case err == nil:
		s.leavePool(step, time.Since(began), places)
	}
	return router.Candidate{}, false
}

// takeAt takes a slot at a candidate if one is free.
func (s *run) takeAt(c router.Candidate, force bool) bool {
	u := s.upstreams[c.Target.Upstream]
	if u.Limit() > 0 {
		s.describe()
	}
	return u.Take(c.Replica, c.Target.ModelFor(s.rec.Model), force, &s.slot)
}

// describe says of the request what admission must know, as far as that is known without reading all of its body.
func (s *run) describe() {
	if s.described {
		return
	}
	s.described = true
	rec := s.rec
	s.slot.Request = admission.Request{Caller: admission.Caller{Key: rec.Identity}, Priority: rec.Priority, Weight: rec.Weight, Prompt: s.promptTokens()}
	if rec.Identity == "" && s.Address != nil {
		s.slot.Caller.Address = s.Address(s.x.Request)
	}
}

// describeFully says all that admission can use, for a request that has to wait anyway.
func (s *run) describeFully() {
	s.describe()
	if request := s.template.JSON; request != nil {
		signals := request.Signals()
		s.slot.Prompt, s.slot.MaxOutput = signals.PromptTokens, signals.MaxTokens
	}
}

// leavePool records that a pool had no free slot in time. No upstream has seen the request.
func (s *run) leavePool(step router.Step, waited time.Duration, places []admission.Place) {
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

// Agents that use the Responses API end their turn if a request is refused, or after a few attempts: Codex up to 0.170 never repeats one
// after status 429. So a stream of the Responses API that gets no place in an admission queue is held, and pinged like one that waits
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
