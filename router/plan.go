package router

import (
	"slices"
	"strings"
)

// A Plan is where requests for one model go: by its routes, or else through its ordered pools. It is made once, when the
// configuration is loaded, and shared by all requests.
type Plan struct {
	// Rule is the model or pattern of the configuration that led here, or how else the plan came about.
	Rule string
	// Routes are tried in their order; the last one always matches. A plan that has them has no pools.
	Routes []Route
	Pools  []*Pool
	// LocalOnly reports whether requests on this plan may go to local upstreams only.
	LocalOnly bool
}

// A Route is a rule of a model: where requests that match it go.
type Route struct {
	// Rule is its name: "model/@matcher", or only the model's name if it always matches.
	Rule string
	// Matcher is that of its RouteConfig. A route without a matcher always matches.
	Matcher Matcher
	// Shadow routes are only recorded, not followed.
	Shadow bool
	// Sessionless routes are for requests that are not part of the conversation in whose session they are sent.
	Sessionless bool
	Plan        *Plan
}

// A Matcher decides which requests take a route. The router only carries it from the configuration to the plan, because it does not
// know requests; its type is agreed between the caller of Compile and the code that follows the routes.
type Matcher any

// Targets visits every target of the plan in order, whatever the number of its replicas.
func (p *Plan) Targets(visit func(Target)) {
	for i := range p.Routes {
		p.Routes[i].Plan.Targets(visit)
	}
	for _, pool := range p.Pools {
		for i := range pool.candidates {
			if pool.candidates[i].Replica == 0 {
				visit(pool.candidates[i].Target)
			}
		}
	}
}

// PoolOf returns the number of the first pool that has a target, written as upstream/model, for a client that asked for a model, or
// -1.
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

// Default returns the upstream that is tried first for a request that no route matches.
func (p *Plan) Default() *Upstream {
	if n := len(p.Routes); n > 0 {
		return p.Routes[n-1].Plan.Default()
	}
	return p.Pools[0].candidates[0].Target.Upstream
}

// FirstPool returns the targets of the first pool that a request may reach if it matches no route, each once. LocalOnly is that of
// the walk.
func (p *Plan) FirstPool(localOnly bool) (targets []Target) {
	localOnly = localOnly || p.LocalOnly
	if n := len(p.Routes); n > 0 {
		return p.Routes[n-1].Plan.FirstPool(localOnly)
	}
	for _, pool := range p.Pools {
		allowed := pool.allowed(localOnly)
		for i := range pool.candidates {
			if t := pool.candidates[i].Target; allowed&(1<<i) != 0 && !slices.Contains(targets, t) {
				targets = append(targets, t)
			}
		}
		if targets != nil {
			return targets
		}
	}
	return nil
}

// StaysLocal reports whether no request on this plan goes to an upstream that is not local.
func (p *Plan) StaysLocal() bool {
	return p.LocalOnly ||
		!slices.ContainsFunc(p.Routes, func(r Route) bool { return !r.Shadow && !r.Plan.StaysLocal() }) &&
			!slices.ContainsFunc(p.Pools, func(pool *Pool) bool { return pool.allowed(true) != pool.allowed(false) })
}

// HasLocal reports whether a walk that is limited to local upstreams may reach any target.
func (p *Plan) HasLocal() bool { return p.Any(true, func(Target) bool { return true }) }

// Any reports whether a walk of the plan may reach a target for which ok returns true. LocalOnly is that of the walk.
func (p *Plan) Any(localOnly bool, ok func(Target) bool) bool {
	return p.reaches(localOnly, func(pool *Pool) candidates { return pool.ok(ok) })
}

// NeedsHead reports whether a pool of the plan, which has no routes, picks by the head of the prompt.
func (p *Plan) NeedsHead() bool { return slices.ContainsFunc(p.Pools, (*Pool).needsHead) }

// Ready reports whether a request for the plan's model could be sent somewhere now.
func (p *Plan) Ready(requested string) bool {
	return p.reaches(false, func(pool *Pool) candidates { return pool.ready(requested) })
}

// reaches reports whether a walk may try one of the wanted candidates.
func (p *Plan) reaches(localOnly bool, wanted func(*Pool) candidates) bool {
	localOnly = localOnly || p.LocalOnly
	return slices.ContainsFunc(p.Routes, func(r Route) bool { return r.Plan.reaches(localOnly, wanted) }) ||
		slices.ContainsFunc(p.Pools, func(pool *Pool) bool { return pool.allowed(localOnly)&wanted(pool) != 0 })
}
