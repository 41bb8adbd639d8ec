package router

import "strings"

// A Plan is where requests for one model go: by its routes, or else through its ordered pools. It is made once, at load, and
// shared by all requests.
type Plan struct {
	// Rule is the model or pattern of the configuration that led here, or "discover".
	Rule string
	// Routes are asked in their order; the last one always matches. A plan that has them has no pools.
	Routes []Route
	Pools  []*Pool
	// LocalOnly tells that a request on this plan must not go to an upstream that is not local.
	LocalOnly bool
}

// A Route is a rule of a model: where requests go that match it.
type Route struct {
	// Rule names it: "model/@matcher", or the model's name alone where it always matches.
	Rule string
	// Always tells that it has no matcher, else Match is the one of its RouteConfig.
	Always bool
	Match  int
	// Shadow routes are only noted, not followed.
	Shadow bool
	Plan   *Plan
}

// Targets visits every target of the plan in order, once for each replica.
func (p *Plan) Targets(visit func(Target)) {
	for i := range p.Routes {
		p.Routes[i].Plan.Targets(visit)
	}
	for _, pool := range p.Pools {
		for i := range pool.candidates {
			visit(pool.candidates[i].Target)
		}
	}
}

// PoolOf is the number of the first pool that has a target, written upstream/model, for a client that asked for a model; -1 if none has.
func (p *Plan) PoolOf(target, requested string) int {
	for n, pool := range p.Pools {
		for i := range pool.candidates {
			t := &pool.candidates[i].Target
			if rest, ok := strings.CutPrefix(target, t.Upstream.Name); ok && len(rest) > 0 && rest[0] == '/' && rest[1:] == t.ModelFor(requested) {
				return n
			}
		}
	}
	return -1
}

// First is the upstream that a request gets first which matches nothing.
func (p *Plan) First() *Upstream {
	if n := len(p.Routes); n > 0 {
		return p.Routes[n-1].Plan.First()
	}
	return p.Pools[0].candidates[0].Target.Upstream
}

// StaysLocal tells whether no request on this plan goes to an upstream that is not local.
func (p *Plan) StaysLocal() bool {
	if p.LocalOnly {
		return true
	}
	for i := range p.Routes {
		if !p.Routes[i].Shadow && !p.Routes[i].Plan.StaysLocal() {
			return false
		}
	}
	for _, pool := range p.Pools {
		if !pool.localOnly && pool.locals() != pool.all() {
			return false
		}
	}
	return true
}

// Any tells whether a walk of the plan would come to a target that is ok. LocalOnly is that of the walk.
func (p *Plan) Any(localOnly bool, ok func(Target) bool) bool {
	for i := range p.Routes {
		if p.Routes[i].Plan.Any(localOnly || p.LocalOnly, ok) {
			return true
		}
	}
	for _, pool := range p.Pools {
		if pool.allowed(localOnly)&^pool.misfits(func(t Target) bool { return !ok(t) }) != 0 {
			return true
		}
	}
	return false
}

// Ready tells whether a request for the plan's model could be sent somewhere now.
func (p *Plan) Ready(requested string) bool {
	for i := range p.Routes {
		if p.Routes[i].Plan.Ready(requested) {
			return true
		}
	}
	for _, pool := range p.Pools {
		if pool.ready(requested)&pool.allowed(p.LocalOnly) != 0 {
			return true
		}
	}
	return false
}
