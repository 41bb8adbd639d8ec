package router

import "time"

// Watch claims the task of probing a replica that is not ready; false if it is, or if somebody does so already. Who got it must
// Probe until the replica is ready, or give the task back by Unwatch.
func (r *Replica) Watch() bool {
	h := &r.health
	if !h.wary.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watched || !h.probed || !h.state.IsProbed() {
		return false
	}
	h.watched = true
	return true
}

// Unwatch gives the task back.
func (r *Replica) Unwatch() {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	r.health.watched = false
}

// How often a replica that is not up is asked: soon at first, as one that restarts.
const (
	probeSoon   = time.Second
	probeLater  = 5 * time.Second
	soonFor     = time.Minute
	probeAtOnce = 250 * time.Millisecond
)

// ProbeIn is how long to wait before the next probe.
func (r *Replica) ProbeIn() time.Duration {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch age := now.Sub(h.since); {
	case h.state == Open:
		return max(h.until.Sub(now), 0)
	case age < probeSoon:
		return probeAtOnce
	case age > soonFor:
		return probeLater
	}
	return probeSoon
}

// ProbeDue claims a probe for somebody who wants to know how the replica fares now; false if that was found out just now.
func (r *Replica) ProbeDue() bool {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Sub(h.asked) < probeSoon {
		return false
	}
	h.asked = now
	return true
}

// Probed takes an answer to a probe into account: Up, Loading or Down.
func (r *Replica) Probed(found State) (Change, bool) {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed = true
	now := time.Now()
	defer h.wary.Store(true)
	switch {
	case h.state == Wedged:
		return Change{}, false // that it is there says nothing
	case h.state == Open && found != Up:
		return h.shut(Open, Unreachable, now)
	case h.state == Open:
		return h.become(HalfOpen, OK, now)
	case found == Up && h.state == HalfOpen:
		return Change{}, false
	case found == Up:
		h.row, h.strikes = 0, nil
		return h.become(Up, OK, now)
	}
	return h.become(found, Unreachable, now)
}

// BecomesReady gives a channel that is closed when the replica is ready.
func (r *Replica) BecomesReady() <-chan struct{} {
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

// Facts is what is known of a replica.
type Facts struct {
	Address       string
	State         State
	Since         time.Time // zero if it was never anything but up
	Why           Verdict   // what made it so
	Open, Waiting int
	Strikes       int
	Hidden        []string // models
}

// Facts gives what is known of the replica now.
func (r *Replica) Facts() Facts {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.prune(now)
	f := Facts{Address: r.Address, State: h.state, Since: h.since, Why: h.why, Open: r.Open(), Waiting: r.Waiting(), Strikes: len(h.strikes)}
	for model, until := range h.hidden {
		if now.Before(until) {
			f.Hidden = append(f.Hidden, model)
		}
	}
	return f
}
