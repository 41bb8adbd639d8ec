package router

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// The bounds of a request's attempts. SDKs make up to three of their own, so that these multiply.
const (
	maxAttempts  = 6 // of one request over all its pools
	maxPerTarget = 3 // of one request at one replica
)

const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter is the longest Retry-After that is obeyed; a longer one is passed on to the client.
	maxRetryAfter = 10 * time.Second
)

// backoff returns how long to wait before a target is tried again after its nth failure: twice as long each time, with a jitter of
// 20 %, so that requests that failed together are not retried together.
func backoff(n int) time.Duration {
	d := min(firstBackoff<<(n-1), maxBackoff)
	return d - d/5 + rand.N(d*2/5)
}

// A Walk goes through a plan for one request: first each candidate that is ready, one pool after the other; then those that were
// passed over because they are not ready; and last, after a wait, those whose failure may be temporary. It is ready to use with a
// Plan and a Model.
type Walk struct {
	Plan *Plan
	// Model is the name that the client asked for.
	Model string
	// LocalOnly leaves out every target whose upstream is not local.
	LocalOnly bool
	// Fits reports whether a target can take the request. Without Fits, all can.
	Fits func(Target) bool
	// Prefer returns whether a candidate has the model in memory that a client asked for. Without Prefer, all have.
	Prefer func(c Candidate, requested string) Preference
	// Head returns the head of the prompt. It is called once at most, and only for a plan that NeedsHead. Without Head, the beginning of the
	// prompt is unknown.
	Head func() *prefix.Head

	head     *prefix.Head // nil until it is needed
	attempts []attempt
	first    [1]attempt // storage for attempts; most requests make one
	pool     int
	round    round
	over     bool // no slot became free in time for a retry
	// inVain are the candidates of the current pool that had no slot in time.
	inVain candidates
	// deferred is the number of the pool, plus one, that the request has left only because another one was expected to be quicker.
	deferred int
}

// A round is one pass through the plan.
type round uint8

const (
	untried  round = iota
	notReady       // not tried yet either: better than an error
	retries
)

// An attempt is one that the request has made.
type attempt struct {
	pool    int
	at      Candidate
	outcome Outcome
}

// isAt reports whether an attempt was made at the same replica for the same target.
func (a *attempt) isAt(c *Candidate) bool {
	return a.at.Target == c.Target && a.at.Replica == c.Replica
}

// A Step is what to try next: one of some candidates of a pool, whichever the policy prefers.
type Step struct {
	// Pool is the number of the pool in the plan.
	Pool int
	// Wait is how long to wait before the attempt.
	Wait time.Duration
	// Loading reports whether the one candidate was loading when it was last tried: it is better to wait until it is ready.
	Loading bool
	// Force reports whether no ready replica is left, so that even one that is reserved for another request's trial may be tried.
	Force bool
	// Final reports whether the request must wait for the pool now, because it has tried those that were expected to be quicker.
	Final bool

	among candidates
	// resident are those of them that are offered first. Spares means that others were left out for their sake.
	resident candidates
	spares   bool
}

// Next returns what to try next, or false if nothing is left.
func (w *Walk) Next() (Step, bool) {
	if len(w.attempts) == maxAttempts || w.over {
		return Step{}, false
	}
	if s, ok := w.adjusted(); ok {
		return s, true
	}
	for ; w.round < retries; w.round, w.pool, w.inVain = w.round+1, 0, 0 {
		for ; w.pool < len(w.Plan.Pools); w.pool, w.inVain = w.pool+1, 0 {
			if left := w.left(w.pool); left&^w.inVain != 0 {
				left &^= w.inVain
				return w.preferring(Step{Pool: w.pool, Force: w.round != untried, among: left}), true
			}
		}
		if w.deferred > 0 {
			s := Step{Pool: w.deferred - 1, Final: true}
			w.deferred, w.pool, w.inVain = 0, s.Pool, 0
			if s.among = w.left(s.Pool); s.among != 0 {
				return w.preferring(s), true
			}
		}
	}
	return w.retry()
}

// Take offers the step's candidates in the order that the pool's policy prefers, and begins an attempt at the first one that take
// accepts because it has a free slot. If take accepts none, it reports false; the request may then be queued for the step's
// Candidates.
func (w *Walk) Take(s Step, take func(Candidate) bool) (Candidate, bool) {
	pool := w.Plan.Pools[s.Pool]
	for _, among := range [...]candidates{s.among & s.resident, s.among &^ s.resident} {
		for among != 0 {
			i := w.pick(pool, among, s.among)
			if c := pool.candidates[i]; take(c) {
				w.Begin(s, c)
				return c, true
			}
			among &^= 1 << i
		}
	}
	return Candidate{}, false
}

// preferring returns a step that prefers the candidates that have the model in memory. If there are any, it leaves out those that would have
// to unload another model that is in use: it is better to wait for a slot where the model is.
func (w *Walk) preferring(s Step) Step {
	if w.Prefer == nil || s.among&(s.among-1) == 0 {
		return s
	}
	var inUse candidates
	for left := s.among; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		switch w.Prefer(w.Plan.Pools[s.Pool].candidates[i], w.Model) {
		case Resident:
			s.resident |= 1 << i
		case InUse:
			inUse |= 1 << i
		}
	}
	if s.resident != 0 {
		s.among, s.spares = s.among&^inUse, inUse != 0
	}
	return s
}

// pick returns the index of the candidate that the pool's policy prefers among the given ones, of all that the step has.
func (w *Walk) pick(p *Pool, among, all candidates) int {
	if p.needsHead() && among&(among-1) != 0 {
		return p.cached(among, all, w.Model, w.promptHead())
	}
	return p.pick(among)
}

func (w *Walk) promptHead() *prefix.Head {
	switch {
	case w.head != nil:
	case w.Head != nil:
		w.head = w.Head()
	default:
		w.head = new(prefix.Head)
	}
	return w.head
}

// Candidates returns the step's candidates, in the order written.
func (w *Walk) Candidates(s Step) (list []Candidate) {
	for i, c := range w.Plan.Pools[s.Pool].candidates {
		if s.among&(1<<i) != 0 {
			list = append(list, c)
		}
	}
	return list
}

// Begin counts an attempt at one of the step's candidates.
func (w *Walk) Begin(s Step, c Candidate) {
	if w.attempts == nil {
		w.attempts = w.first[:0]
	}
	w.attempts = append(w.attempts, attempt{pool: s.Pool, at: c})
	if w.Plan.Pools[s.Pool].needsHead() {
		c.replica().WillCache(c.Target.ModelFor(w.Model), w.promptHead())
	}
}

// Failed records how the last attempt ended.
func (w *Walk) Failed(o Outcome) { w.attempts[len(w.attempts)-1].outcome = o }

// Skip leaves the step's candidates, because none of them had a slot in time. If others were left out for their sake, these are next.
func (w *Walk) Skip(s Step) {
	if s.spares && s.Pool == w.pool {
		w.inVain = s.among
		return
	}
	w.over = w.round == retries
	w.Leave(s)
}

// Leave leaves the step's pool.
func (w *Walk) Leave(s Step) { w.pool, w.inVain = s.Pool+1, 0 }

// Defer leaves the step's pool, because another one is expected to be quicker. It is tried again when no other target is left.
func (w *Walk) Defer(s Step) {
	w.Leave(s)
	w.deferred = s.Pool + 1
}

// Spill returns what decides whether the request is better sent on from the step's pool, and the candidates of the pool to which it would
// go. It returns nil if nothing decides that, or if there is no such pool.
func (w *Walk) Spill(s Step) (*admission.Spill, []Candidate) {
	spill := w.Plan.Pools[s.Pool].spill
	if spill == nil || s.Final || w.round != untried || w.deferred > 0 {
		return nil, nil
	}
	for i := s.Pool + 1; i < len(w.Plan.Pools); i++ {
		if left := w.left(i); left != 0 {
			return spill, w.Candidates(Step{Pool: i, among: left})
		}
	}
	return nil, nil
}

// NoneFits reports whether no target of a pool can take the request.
func (w *Walk) NoneFits(pool int) bool {
	p := w.Plan.Pools[pool]
	return w.Fits != nil && p.allowed(w.LocalOnly)&p.ok(w.Fits) == 0
}

// Reason returns why a pool was passed over: the reason why its first candidate is not ready.
func (w *Walk) Reason(pool int) Verdict {
	c := &w.Plan.Pools[pool].candidates[0]
	return c.replica().Reason(c.Target.ModelFor(w.Model))
}

// Last reports whether no other target is left after the last attempt, which may then take longer.
func (w *Walk) Last() bool {
	switch {
	case len(w.attempts) == maxAttempts, w.round == retries:
		return true
	case w.deferred > 0:
		return false
	case w.round == notReady && len(w.attempts) != 1:
		return false
	}
	return w.left(w.pool) == 0 && w.LastPool()
}

// LastPool reports whether no other pool has a candidate left.
func (w *Walk) LastPool() bool {
	if w.deferred > 0 {
		return false
	}
	for i := w.pool + 1; i < len(w.Plan.Pools); i++ {
		if w.left(i) != 0 {
			return false
		}
	}
	return true
}

// left returns the candidates of a pool that the current round tries, that were not tried yet, and whose target has not refused the
// request as unsupported.
func (w *Walk) left(pool int) candidates {
	p := w.Plan.Pools[pool]
	left := p.ready(w.Model)
	if w.round == notReady {
		left = p.all() &^ left
	}
	left &= p.allowed(w.LocalOnly)
	if w.Fits != nil {
		left &= p.ok(w.Fits)
	}
	for i := range w.attempts {
		a := &w.attempts[i]
		left &^= p.where(func(c *Candidate) bool {
			return a.isAt(c) || a.outcome.Verdict == Unsupported && a.at.Target == c.Target
		})
	}
	return left
}

// adjusted returns the step after an Adjustable verdict: the same candidate, at once, but only once for each adjustment.
func (w *Walk) adjusted() (Step, bool) {
	if len(w.attempts) == 0 {
		return Step{}, false
	}
	last := &w.attempts[len(w.attempts)-1]
	if last.outcome.Verdict != Adjustable {
		return Step{}, false
	}
	for i := range w.attempts[:len(w.attempts)-1] {
		if a := &w.attempts[i]; a.isAt(&last.at) && a.outcome.Verdict == Adjustable && a.outcome.Adjust == last.outcome.Adjust {
			return Step{}, false
		}
	}
	return Step{Pool: last.pool, Force: w.round != untried, among: 1 << last.at.index}, true
}

// retry returns a step for the candidate that may be tried again the soonest.
func (w *Walk) retry() (best Step, ok bool) {
	for i := range w.attempts {
		a := &w.attempts[i]
		n := w.count(a)
		if !a.outcome.Verdict.retryable() || n == maxPerTarget || w.isRepeated(i) || a.outcome.RetryAfter > maxRetryAfter {
			continue
		}
		wait := a.outcome.RetryAfter
		if wait == 0 {
			wait = backoff(n)
		}
		if !ok || wait < best.Wait {
			best, ok = Step{Pool: a.pool, Wait: wait, Loading: a.outcome.Loading, Force: true, among: 1 << a.at.index}, true
		}
	}
	return best, ok
}

// count returns how many attempts were made where a was.
func (w *Walk) count(a *attempt) (n int) {
	for i := range w.attempts {
		if w.attempts[i].isAt(&a.at) {
			n++
		}
	}
	return n
}

// isRepeated reports whether a later attempt was made where the ith was.
func (w *Walk) isRepeated(i int) bool {
	return slices.ContainsFunc(w.attempts[i+1:], func(later attempt) bool { return later.isAt(&w.attempts[i].at) })
}
