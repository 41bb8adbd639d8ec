package delivery

import (
	"errors"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// slot takes a slot at one of the step's candidates, and waits in the admission queue where none is free. It reports false if
// the client left meanwhile, if the process is about to end, or if no position or no slot was free in time: then the pool is
// left.
func (s *run) slot(step router.Step) (router.Candidate, bool) {
	take := func(c router.Candidate) bool { return s.upstreams[c.Target.Upstream].Take(c.Replica, step.Force) }
	if candidate, ok := s.walk.Take(step, take); ok {
		return candidate, true
	}
	begun := time.Now()
	candidates := s.walk.Candidates(step)
	places := make([]replica.Place, len(candidates))
	for i, c := range candidates {
		places[i] = replica.Place{Group: &s.upstreams[c.Target.Upstream].Group, Index: c.Replica}
	}
	ticket, ok := replica.Enqueue(s.rec.Priority, s.walk.LastPool(), places)
	if !ok {
		s.queueFull(step, 0)
		return router.Candidate{}, false
	}
	defer func() { s.rec.Queue += time.Since(begun) }()
	defer ticket.Leave()
	index, came, err := wait(s, ticket.Granted(), s.untilDeadline(ticket.MaxWait))
	switch {
	case came && index >= 0:
		s.walk.Begin(step, candidates[index])
		return candidates[index], true
	case came: // its position was given to a request of a higher priority
		s.queueFull(step, 0)
	case err == nil:
		s.queueFull(step, time.Since(begun))
	}
	return router.Candidate{}, false
}

// pause leaves the candidate alone for as long as the step says, or until it has loaded. It reports false when the client
// leaves meanwhile, when that takes too long, or longer than the request's deadline.
func (s *run) pause(step router.Step) bool {
	if step.Wait == 0 {
		return true
	}
	began := time.Now()
	defer func() { s.rec.Paused += time.Since(began) }()
	if step.Loading {
		candidate := s.walk.Candidates(step)[0]
		if u := s.upstreams[candidate.Target.Upstream]; u.CanProbe() {
			_, came, _ := wait(s, u.Replicas[candidate.Replica].WhenReady(), s.untilDeadline(u.LoadTimeout()))
			return came
		}
	}
	if deadline := s.ask.Deadline; !deadline.IsZero() && time.Until(deadline) < step.Wait {
		return false
	}
	_, _, err := wait[struct{}](s, nil, step.Wait)
	return err == nil
}

// untilDeadline bounds a wait by the request's deadline.
func (s *run) untilDeadline(wait time.Duration) time.Duration {
	if s.ask.Deadline.IsZero() {
		return wait
	}
	return min(wait, time.Until(s.ask.Deadline))
}

// errNobodyWaits means that a wait ended because nobody waits for the answer any more.
var errNobodyWaits = errors.New("the client left, or the gateway is shutting down")

// wait waits for a channel, for limit at most; came is false if that has passed. A waiting client is pinged meanwhile.
func wait[T any](s *run, channel <-chan T, limit time.Duration) (value T, came bool, err error) {
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
			return value, false, errNobodyWaits
		case <-drained:
			return value, false, errNobodyWaits
		}
	}
}

// queueFull records that a pool had no slot in time. No upstream has seen the request.
func (s *run) queueFull(step router.Step, waited time.Duration) {
	s.walk.Skip(step)
	s.note(&failure{
		Finding: upstream.Finding{Outcome: router.Outcome{Verdict: router.Overloaded, RetryAfter: retryAfterQueue(waited)}},
		spill:   true, waited: waited,
	})
}

// The shortest and the longest time after which a request that found no slot is asked to come back: SDKs take no more than a
// minute for an answer.
const (
	retrySoonest = time.Second
	retryLatest  = 30 * time.Second
)

// retryAfterQueue is a part of the wait that was in vain: within it, some of those ahead will be done.
func retryAfterQueue(waited time.Duration) time.Duration {
	return min(max(waited/4, retrySoonest), retryLatest)
}
