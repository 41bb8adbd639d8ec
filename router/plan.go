package router

// A Plan is the ordered pools for one model. It is made once, at load, and shared by all requests.
type Plan struct {
	// Rule is the model or pattern of the configuration that led here, or "discover".
	Rule  string
	Pools []*Pool
}

// MaxAttempts bounds the attempts of one request over all its pools.
const MaxAttempts = 6

// A Walk goes through a plan for one request: each candidate once, a pool after the other. The zero Walk of a plan is
// ready: Walk{Plan: p}.
type Walk struct {
	Plan     *Plan
	pool     int
	tried    uint64
	attempts int
}

// Next gives the candidate to try next, and the number of its pool; false when none is left.
func (w *Walk) Next() (Candidate, int, bool) {
	for w.attempts < MaxAttempts && w.pool < len(w.Plan.Pools) {
		pool := w.Plan.Pools[w.pool]
		if i := pool.pick(w.tried); i >= 0 {
			w.tried |= 1 << i
			w.attempts++
			return pool.candidates[i], w.pool, true
		}
		w.pool, w.tried = w.pool+1, 0
	}
	return Candidate{}, 0, false
}

// Last tells whether no candidate is left after those that Next gave: the last one is waited for longer.
func (w *Walk) Last() bool {
	if w.attempts >= MaxAttempts || w.pool >= len(w.Plan.Pools) {
		return true
	}
	for _, pool := range w.Plan.Pools[w.pool+1:] {
		if len(pool.candidates) > 0 {
			return false
		}
	}
	all := uint64(1)<<len(w.Plan.Pools[w.pool].candidates) - 1
	return w.tried&all == all
}

// Targets visits every target of the plan in order, once for each replica.
func (p *Plan) Targets(visit func(Target)) {
	for _, pool := range p.Pools {
		for _, c := range pool.candidates {
			visit(c.Target)
		}
	}
}

// First is the upstream of the first target.
func (p *Plan) First() *Upstream { return p.Pools[0].candidates[0].Target.Upstream }
