package replica

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A State is the health of a replica, as far as it is known.
type State uint8

// The states. Up and HalfOpen replicas get requests; a HalfOpen one that cannot be probed gets only one at a time.
const (
	Up       State = iota
	HalfOpen       // its circuit breaker was open, and it is being tried
	Loading        // it says that it is loading its model, or its probe hangs as if it were
	Down           // it cannot be reached
	Open           // it failed too often: its circuit breaker is open
	Stuck          // no request makes progress, although its probes succeed: its circuit breaker is open
)

var stateNames = [...]string{"up", "half_open", "loading", "down", "open", "stuck"}

// String returns the state's name, as in logs, metrics and answers.
func (s State) String() string { return stateNames[s] }

// NeedsProbe reports whether a probe can show that a replica in this state is ready again.
func (s State) NeedsProbe() bool { return s > HalfOpen && s != Stuck }

const (
	downFor         = time.Second // until a request may try a replica that is down and cannot be probed
	hiddenFor       = time.Minute
	maxHiddenModels = 64
)

// How often a replica that is not up is probed: often at first, in case it is just restarting.
const (
	firstProbe   = 250 * time.Millisecond
	probeSoon    = time.Second
	probeLater   = 5 * time.Second
	probeSoonFor = time.Minute
)

// health is what is known of a replica, except its load. All fields but noteworthy are guarded by mu.
type health struct {
	// noteworthy reports whether the other fields may differ from their zero values. It is the only field that requests to a
	// healthy replica read.
	noteworthy atomic.Bool
	mu         sync.Mutex
	state      State
	since      time.Time
	reason     router.Verdict // for the state
	retryAt    time.Time      // when one that is not ready may be tried, or probed if it can be
	canProbe   bool           // probes can check it, so that no request needs to try it
	breaker    breaker
	hidden     map[string]time.Time // models that it does not have or that we may not use, and until when they are hidden
	ready      chan struct{}        // closed when it becomes ready; nil while nothing waits for that
	probing    bool
	probed     time.Time // when ClaimProbe last allowed a probe
}

// A Change is what a report changed: the replica became healthy or unhealthy, or a model is hidden from now on.
type Change struct {
	State       State
	Reason      router.Verdict
	Healthy     bool
	HiddenModel string // empty if the health changed
}

// Ready implements router.Replica.
func (r *Replica) Ready(model string) bool {
	h := &r.health
	if !h.noteworthy.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	return h.isReady(now) && !now.Before(h.hidden[model])
}

func (h *health) isReady(now time.Time) bool {
	switch {
	case h.state == Up:
		return true
	case h.canProbe && h.state != Stuck:
		return h.state == HalfOpen
	}
	return !now.Before(h.retryAt)
}

// Reason implements router.Replica.
func (r *Replica) Reason(model string) router.Verdict {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.hidden[model]) {
		return router.Misconfigured
	}
	return h.reason
}

// Report records how an attempt for a model ended. CanProbe is whether the replica's health can be checked without generating. It
// returns the change, or false if nothing changed.
func (r *Replica) Report(model string, o router.Outcome, canProbe bool) (Change, bool) {
	h := &r.health
	if o.Verdict == router.ClientClosed || o.Verdict == router.OK && !h.noteworthy.Load() {
		return Change{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.canProbe = canProbe
	defer func() { h.noteworthy.Store(h.state != Up || !h.breaker.isZero() || len(h.hidden) > 0) }()
	switch {
	case o.Verdict == router.Misconfigured:
		return h.hide(model, now)
	case o.Verdict.IsFailure():
		return h.fail(o.Verdict, now)
	case o.Verdict == router.Unreachable:
		h.retryAt = now.Add(downFor)
		r.prefixes.Clear() // it was restarted, or will be
		r.queue.Forget()   // it may come back with other settings
		if o.Loading {
			return h.become(Loading, o.Verdict, now)
		}
		return h.become(Down, o.Verdict, now)
	case o.Verdict == router.OK:
		delete(h.hidden, model)
	}
	h.breaker.alive(now)
	if h.state == Up || h.state == Stuck && o.Verdict != router.OK { // a stuck engine may still refuse requests
		return Change{}, false
	}
	h.breaker.reset()
	return h.become(Up, o.Verdict, now)
}

// hide hides a model for a while. It counts as a change only once until the model has answered.
func (h *health) hide(model string, now time.Time) (Change, bool) {
	if h.hidden == nil || len(h.hidden) >= maxHiddenModels {
		h.hidden = map[string]time.Time{}
	}
	_, known := h.hidden[model]
	h.hidden[model] = now.Add(hiddenFor)
	return Change{State: h.state, Reason: router.Misconfigured, HiddenModel: model}, !known
}

// become changes the state. It returns the change, or false if the replica is as healthy as before.
func (h *health) become(s State, reason router.Verdict, now time.Time) (Change, bool) {
	was := h.isHealthy()
	if h.state != s {
		h.state, h.since, h.reason = s, now, reason
	}
	is := h.isHealthy()
	if is && h.ready != nil {
		close(h.ready)
		h.ready = nil
	}
	return Change{State: s, Reason: reason, Healthy: is}, was != is
}

func (h *health) isHealthy() bool { return h.state == Up || h.state == HalfOpen && h.canProbe }

// StartProbing claims the task of probing a replica until it is ready. It reports false if the replica is ready, if another
// goroutine has the task, or if probes prove nothing. StopProbing releases the task.
func (r *Replica) StartProbing() bool {
	h := &r.health
	if !h.noteworthy.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probing || !h.canProbe || !h.state.NeedsProbe() {
		return false
	}
	h.probing = true
	return true
}

// StopProbing releases the task that StartProbing claimed.
func (r *Replica) StopProbing() {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	r.health.probing = false
}

// NextProbe returns how long to wait before the next probe.
func (r *Replica) NextProbe() time.Duration {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch age := now.Sub(h.since); {
	case h.state == Open:
		return max(h.retryAt.Sub(now), 0)
	case age < probeSoon:
		return firstProbe
	case age > probeSoonFor:
		return probeLater
	}
	return probeSoon
}

// ClaimProbe claims a single probe. It reports false if there was one within the last second, or if the circuit breaker is open,
// because a probe must not close it early.
func (r *Replica) ClaimProbe() bool {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.state == Open || now.Sub(h.probed) < probeSoon {
		return false
	}
	h.probed = now
	return true
}

// ReportProbe records the result of a probe: Up, Loading or Down. It returns the change, or false if nothing changed.
func (r *Replica) ReportProbe(found State) (Change, bool) {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canProbe = true
	now := time.Now()
	defer h.noteworthy.Store(true)
	switch {
	case h.state == Stuck:
		return Change{}, false // its probes have succeeded all along
	case h.state == Open && found != Up:
		return h.trip(Open, router.Unreachable, now)
	case h.state == Open:
		return h.become(HalfOpen, router.OK, now)
	case found == Up && h.state == HalfOpen:
		return Change{}, false
	case found == Up:
		h.breaker.forget()
		return h.become(Up, router.OK, now)
	}
	r.prefixes.Clear()
	return h.become(found, router.Unreachable, now)
}

// WhenReady returns a channel that is closed when the replica is ready.
func (r *Replica) WhenReady() <-chan struct{} {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state <= HalfOpen {
		ready := make(chan struct{})
		close(ready)
		return ready
	}
	if h.ready == nil {
		h.ready = make(chan struct{})
	}
	return h.ready
}

// A Status is what is known of a replica.
type Status struct {
	Address           string
	State             State
	Since             time.Time      // zero if it has always been Up
	Reason            router.Verdict // for the state
	InFlight, Waiting int
	Failures          int // that the circuit breaker counts
	HiddenModels      []string
}

// Status returns what is known of the replica now.
func (r *Replica) Status() Status {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	s := Status{
		Address: r.Address, State: h.state, Since: h.since, Reason: h.reason,
		InFlight: r.InFlight(), Waiting: r.Waiting(), Failures: h.breaker.recent(now),
	}
	for model, until := range h.hidden {
		if now.Before(until) {
			s.HiddenModels = append(s.HiddenModels, model)
		}
	}
	return s
}
