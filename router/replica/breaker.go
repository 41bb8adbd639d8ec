package replica

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The circuit breaker trips after three failures in a row, or five within 30 s, or one while it is half-open. It stays open for 5 s,
// and twice as long each time that it trips again before the replica has answered, up to a minute.
const (
	maxInRow     = 3
	maxInWindow  = 5
	window       = 30 * time.Second
	firstOpenFor = 5 * time.Second
	maxOpenFor   = time.Minute
)

// breaker counts the failures of a replica. It is a part of the replica's health, and guarded by its lock.
type breaker struct {
	inRow    int
	failures []time.Time   // within the window
	openFor  time.Duration // how long the circuit breaker was open the last time
	trial    bool          // a request is trying whether the replica is still stuck
}

// isZero reports whether no failure is counted.
func (b *breaker) isZero() bool { return b.inRow == 0 && len(b.failures) == 0 }

// recent returns the number of failures within the window.
func (b *breaker) recent(now time.Time) int {
	for len(b.failures) > 0 && now.Sub(b.failures[0]) > window {
		b.failures = b.failures[1:]
	}
	return len(b.failures)
}

// alive records that the replica answered, even if only to refuse.
func (b *breaker) alive(now time.Time) {
	b.inRow = 0
	b.recent(now)
}

// forget forgets the failures.
func (b *breaker) forget() { b.inRow, b.failures = 0, nil }

// reset makes the next trip count as the first one.
func (b *breaker) reset() { b.openFor = 0 }

// fail counts a failure, and trips the circuit breaker if there were too many.
func (h *health) fail(v router.Verdict, now time.Time) (Change, bool) {
	b := &h.breaker
	switch {
	case h.state == Open, h.state == Stuck && !b.trial:
		return Change{}, false // the attempt began before the circuit breaker tripped
	case h.state == Stuck:
		return h.trip(Stuck, v, now)
	}
	b.inRow++
	recent := b.recent(now) + 1
	b.failures = append(b.failures, now)
	if h.state != HalfOpen && b.inRow < maxInRow && recent < maxInWindow {
		return Change{}, false
	}
	return h.trip(Open, v, now)
}

// trip opens the circuit breaker for longer than the last time. The state becomes Open or Stuck.
func (h *health) trip(s State, v router.Verdict, now time.Time) (Change, bool) {
	b := &h.breaker
	b.forget()
	b.trial = false
	b.openFor = min(max(2*b.openFor, firstOpenFor), maxOpenFor)
	h.retryAt = now.Add(b.openFor)
	return h.become(s, v, now)
}

// startTrial reports whether a request may be sent to the replica. A replica that is not up, and that probes cannot check or whose
// probes prove nothing, is tried by one request after a while; other requests wait for the result.
func (r *Replica) startTrial() bool {
	h := &r.health
	if !h.noteworthy.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.state == Up || h.canProbe && h.state != Stuck {
		return true
	}
	if now.Before(h.retryAt) {
		return false
	}
	if h.state == Open {
		h.state = HalfOpen
	}
	h.breaker.trial = h.state == Stuck
	h.retryAt = now.Add(max(h.breaker.openFor, firstOpenFor))
	return true
}
