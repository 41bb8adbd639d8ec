package router

import (
	"math/bits"
	"time"
)

// A Walk goes through a plan for one request: each candidate once, a pool after the other; then those that were passed over
// because they are shut out; and only then, after a wait, those that failed in a way that may pass. A walk of a plan is
// ready: Walk{Plan: p, Model: "asked for"}.
type Walk struct {
	Plan *Plan
	// Model is the name that the client asked for.
	Model string
	// LocalOnly leaves out every target whose upstream is not local.
	LocalOnly bool
	// Priority is the request's among those that wait for a slot.
	Priority Priority
	// Misfit tells of a target that it cannot take the request, so that it is left out; nil where all can.
	Misfit func(Target) bool

	stage stage
	pool  int
	tries [MaxAttempts]try
	made  int
	over  bool // the last ones had no slot in time
}

// A stage is one round through the plan.
type stage uint8

const (
	fresh stage = iota // untried and ready
	shut               // untried and shut out: better than an error
	stale              // tried before
)

// A try is an attempt that was made.
type try struct {
	pool, index int
	target      Target
	replica     *Replica
	outcome     Outcome
}

// A Turn is what is to be tried next: one of some candidates of a pool, whichever its policy takes.
type Turn struct {
	// Pool is the number of the pool in the plan.
	Pool int
	// Wait is how long to wait before.
	Wait time.Duration
	// Loading tells that the one candidate was loading when it was asked last: better to wait until it is up.
	Loading bool
	among   uint64
}

// Next tells what to try next; false when nothing is left.
func (w *Walk) Next() (Turn, bool) {
	if w.made == MaxAttempts || w.over {
		return Turn{}, false
	}
	if t, ok := w.fix(); ok {
		return t, true
	}
	for ; w.stage < stale; w.stage, w.pool = w.stage+1, 0 {
		for ; w.pool < len(w.Plan.Pools); w.pool++ {
			if among := w.left(w.pool); among != 0 {
				return Turn{Pool: w.pool, among: among}, true
			}
		}
	}
	return w.again()
}

// Take takes a slot at one of the turn's candidates, by the pool's policy, and counts the attempt; false when none is free: see
// Queue. The slot must be given back by Replica.End.
func (w *Walk) Take(t Turn) (Candidate, bool) {
	pool := w.Plan.Pools[t.Pool]
	i := pool.take(t.among, w.stage != fresh)
	if i < 0 {
		return Candidate{}, false
	}
	w.begin(t, i)
	return pool.candidates[i], true
}

// Candidate is the one candidate of a turn that comes after a wait.
func (w *Walk) Candidate(t Turn) Candidate {
	return w.Plan.Pools[t.Pool].candidates[bits.TrailingZeros64(t.among)]
}

func (w *Walk) begin(t Turn, i int) {
	c := &w.Plan.Pools[t.Pool].candidates[i]
	w.tries[w.made] = try{pool: t.Pool, index: i, target: c.Target, replica: c.Replica}
	w.made++
}

// Failed tells how the attempt of the last Take ended.
func (w *Walk) Failed(o Outcome) { w.tries[w.made-1].outcome = o }

// Passed is why a pool was passed over: what its first candidate is shut out for.
func (w *Walk) Passed(pool int) Verdict {
	c := &w.Plan.Pools[pool].candidates[0]
	return c.Replica.shutBy(c.Target.ModelFor(w.Model))
}

// Last tells whether no other target is left after the one that Take gave last: it is waited for longer.
func (w *Walk) Last() bool {
	switch {
	case w.made == MaxAttempts, w.stage == stale:
		return true
	case w.stage == shut:
		return w.made == 1 && w.left(w.pool) == 0 && w.noneAfter()
	}
	return w.left(w.pool) == 0 && w.noneAfter()
}

func (w *Walk) noneAfter() bool {
	for i := w.pool + 1; i < len(w.Plan.Pools); i++ {
		if w.left(i) != 0 {
			return false
		}
	}
	return true
}

// left are the candidates of a pool that the stage is about and that were not tried, nor a target that has already said that
// it cannot take this request.
func (w *Walk) left(at int) uint64 {
	pool := w.Plan.Pools[at]
	left := pool.ready(w.Model)
	if w.stage == shut {
		left = pool.all() &^ left
	}
	if w.LocalOnly || pool.localOnly {
		left &= pool.locals()
	}
	if w.Misfit != nil {
		left &^= pool.misfits(w.Misfit)
	}
	for i := range w.tries[:w.made] {
		left &^= pool.same(&w.tries[i])
	}
	return left
}

// Unfit tells whether none of a pool's targets can take the request.
func (w *Walk) Unfit(at int) bool {
	pool := w.Plan.Pools[at]
	return w.Misfit != nil && pool.allowed(w.LocalOnly)&^pool.misfits(w.Misfit) == 0
}

// fix is the turn after an Adjustable verdict: the same candidate, at once, but only once.
func (w *Walk) fix() (Turn, bool) {
	if w.made == 0 {
		return Turn{}, false
	}
	last := &w.tries[w.made-1]
	if last.outcome.Verdict != Adjustable || w.count(last) > 1 {
		return Turn{}, false
	}
	return Turn{Pool: last.pool, among: 1 << last.index}, true
}

// again is the turn of the candidate that may be asked again the soonest.
func (w *Walk) again() (best Turn, ok bool) {
	for i := range w.tries[:w.made] {
		t := &w.tries[i]
		n := w.count(t)
		if !t.outcome.Verdict.retryable() || n == maxPerTarget || w.triedSince(i) || t.outcome.RetryAfter > maxRetryAfter {
			continue
		}
		wait := t.outcome.RetryAfter
		if wait == 0 {
			wait = backoff(n)
		}
		if !ok || wait < best.Wait {
			best, ok = Turn{Pool: t.pool, Wait: wait, Loading: t.outcome.Loading, among: 1 << t.index}, true
		}
	}
	return best, ok
}

// count is how often the replica was tried for the same target.
func (w *Walk) count(one *try) (n int) {
	for i := range w.tries[:w.made] {
		if t := &w.tries[i]; t.replica == one.replica && t.target == one.target {
			n++
		}
	}
	return n
}

// triedSince tells whether a later try is about the same.
func (w *Walk) triedSince(i int) bool {
	for later := i + 1; later < w.made; later++ {
		if w.tries[later].replica == w.tries[i].replica && w.tries[later].target == w.tries[i].target {
			return true
		}
	}
	return false
}
