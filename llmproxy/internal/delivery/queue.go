package delivery

import (
	"errors"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
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
