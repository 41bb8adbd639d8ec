package router

import (
	"sync"
	"sync/atomic"
	"time"
)

// A State is how a replica fares, as far as known.
type State uint8

// The states. Up and HalfOpen are ready for requests; a HalfOpen one that nobody can probe only for one at a time.
const (
	Up       State = iota
	HalfOpen       // its circuit was open, and it is being tried
	Loading        // it says that it is loading, or hangs as one that does
	Down           // it cannot be reached
	Open           // it failed too often: its circuit is open
	Wedged         // its circuit is open, since no request makes progress there, whatever its probes say
)

var stateNames = [...]string{"up", "half_open", "loading", "down", "open", "wedged"}

// String gives the state's name as it stands in logs and answers.
func (s State) String() string { return stateNames[s] }

// IsProbed tells whether probes find out when one in this state is ready.
func (s State) IsProbed() bool { return s > HalfOpen && s != Wedged }

// The bounds of a circuit.
const (
	strikesInRow  = 3
	strikesInTime = 5
	strikesWithin = 30 * time.Second
	coolFirst     = 5 * time.Second
	coolMost      = time.Minute
	downFor       = time.Second // one that cannot be probed
	hiddenFor     = time.Minute
	maxHidden     = 64 // models of a replica
)

// health is what is known of a replica beside its load. All but wary is under mu.
type health struct {
	// wary tells that there is anything to look at: the only word that requests to a sound replica read.
	wary    atomic.Bool
	mu      sync.Mutex
	state   State
	since   time.Time
	why     Verdict
	until   time.Time     // when one that is not ready may be tried, or probed if it can be
	cool    time.Duration // how long its circuit was open last
	probed  bool          // it can be probed, so that no request needs to try it
	trial   bool          // a request tries whether it is still wedged
	row     int
	strikes []time.Time
	hidden  map[string]time.Time // models that it does not have or does not let us use
	ready   chan struct{}        // closed when it becomes ready; nil while nobody waits
	watched bool
	asked   time.Time // when somebody wanted to know how it fares
}

// A Change is what a replica has become.
type Change struct {
	State State
	Why   Verdict
	// Healthy tells that it is ready, where it was not, or the other way round. Otherwise the change is Hidden.
	Healthy bool
	// Hidden is a model that is hidden there from now on; empty for none.
	Hidden string
}

// Ready tells whether requests for a model may be sent to the replica now.
func (r *Replica) Ready(model string) bool {
	h := &r.health
	if !h.wary.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	return h.isReady(now) && !now.Before(h.hidden[model])
}

// shutBy is what the replica is shut out for, as far as a model is concerned.
func (r *Replica) shutBy(model string) Verdict {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.hidden[model]) {
		return Misconfigured
	}
	return h.why
}

func (h *health) isReady(now time.Time) bool {
	switch {
	case h.state == Up:
		return true
	case h.probed && h.state != Wedged:
		return h.state == HalfOpen
	}
	return !now.Before(h.until)
}

// claim lets one request try a replica that nobody can probe, or whose probes say nothing; the others wait for what becomes of it.
func (r *Replica) claim() bool {
	h := &r.health
	if !h.wary.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.state == Up || h.probed && h.state != Wedged {
		return true
	}
	if now.Before(h.until) {
		return false
	}
	if h.state == Open {
		h.state = HalfOpen
	}
	h.trial = h.state == Wedged
	h.until = now.Add(max(h.cool, coolFirst))
	return true
}

// Note takes the end of an attempt for a model into account; probed tells whether the replica can be asked without generating.
// The change is false where nothing is to be told.
func (r *Replica) Note(model string, o Outcome, probed bool) (Change, bool) {
	h := &r.health
	if o.Verdict == ClientClosed || o.Verdict == OK && !h.wary.Load() {
		return Change{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.probed = probed
	defer func() { h.wary.Store(h.state != Up || h.row > 0 || len(h.strikes) > 0 || len(h.hidden) > 0) }()
	switch {
	case o.Verdict == Misconfigured:
		return h.hide(model, now)
	case o.Verdict.IsFailure():
		return h.strike(o.Verdict, now)
	case o.Verdict == Unreachable:
		h.until = now.Add(downFor)
		if o.Loading {
			return h.become(Loading, o.Verdict, now)
		}
		return h.become(Down, o.Verdict, now)
	case o.Verdict == OK:
		delete(h.hidden, model)
	}
	h.row = 0 // whatever it said, it is alive
	h.prune(now)
	if h.state == Up || h.state == Wedged && o.Verdict != OK { // to refuse takes no engine
		return Change{}, false
	}
	h.cool = 0
	return h.become(Up, o.Verdict, now)
}

func (h *health) strike(v Verdict, now time.Time) (Change, bool) {
	switch {
	case h.state == Open, h.state == Wedged && !h.trial:
		return Change{}, false // begun before it was opened
	case h.state == Wedged:
		return h.shut(Wedged, v, now)
	}
	h.row++
	h.prune(now)
	h.strikes = append(h.strikes, now)
	if h.state != HalfOpen && h.row < strikesInRow && len(h.strikes) < strikesInTime {
		return Change{}, false
	}
	return h.shut(Open, v, now)
}

// shut opens the circuit, for longer than the last time.
func (h *health) shut(s State, v Verdict, now time.Time) (Change, bool) {
	h.row, h.strikes, h.trial = 0, nil, false
	h.cool = min(max(2*h.cool, coolFirst), coolMost)
	h.until = now.Add(h.cool)
	return h.become(s, v, now)
}

func (h *health) prune(now time.Time) {
	for len(h.strikes) > 0 && now.Sub(h.strikes[0]) > strikesWithin {
		h.strikes = h.strikes[1:]
	}
}

// hide hides a model for a while. It is told of once, until the model has answered.
func (h *health) hide(model string, now time.Time) (Change, bool) {
	if h.hidden == nil || len(h.hidden) >= maxHidden {
		h.hidden = map[string]time.Time{}
	}
	_, known := h.hidden[model]
	h.hidden[model] = now.Add(hiddenFor)
	return Change{State: h.state, Why: Misconfigured, Hidden: model}, !known
}

// become changes the state. To be told is only whether it is ready.
func (h *health) become(s State, why Verdict, now time.Time) (Change, bool) {
	was := h.state <= HalfOpen && (h.state == Up || h.probed)
	if h.state != s {
		h.state, h.since, h.why = s, now, why
	}
	is := s <= HalfOpen && (s == Up || h.probed)
	if is && h.ready != nil {
		close(h.ready)
		h.ready = nil
	}
	return Change{State: s, Why: why, Healthy: is}, was != is
}
