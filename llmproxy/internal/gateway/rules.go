package gateway

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// choose follows the rules of a plan to where the request goes. A plan without rules costs one comparison.
func (c *call) choose(plan *router.Plan) *router.Plan {
	c.rec.Route, c.rec.Rule = plan.Rule, plan.Rule
	if len(plan.Routes) == 0 {
		return plan
	}
	id, pinned := c.pinned()
	var trail []string
	for len(plan.Routes) > 0 {
		c.localOnly = c.localOnly || plan.LocalOnly
		route := c.match(plan)
		if kept := named(plan, pinned, len(trail)); kept != nil && kept != route && c.mayKeep(kept, route) {
			route, c.rec.Pinned = kept, true
		}
		trail = append(trail, route.Rule)
		plan = route.Plan
	}
	c.rec.Route = strings.Join(trail, ">")
	if id != (pinID{}) {
		c.g.Pins.put(id, trail)
	}
	return plan
}

// match is the first route of the plan that the request matches; the last one it always does.
func (c *call) match(plan *router.Plan) *router.Route {
	for i := range plan.Routes {
		r := &plan.Routes[i]
		if !r.Always && !c.g.Matches(c.r, c.rec, r.Match) {
			continue
		}
		if !r.Shadow {
			return r
		}
		if c.rec.Shadow == "" {
			c.rec.Shadow = r.Rule
		}
	}
	return &plan.Routes[len(plan.Routes)-1]
}

// named finds the route of the plan that a conversation got at this depth; a reload may have taken it away.
func named(plan *router.Plan, trail []string, depth int) *router.Route {
	if depth >= len(trail) {
		return nil
	}
	for i := range plan.Routes {
		if r := &plan.Routes[i]; r.Rule == trail[depth] && !r.Shadow {
			return r
		}
	}
	return nil
}

// mayKeep tells whether a conversation may stay on its route where this request matches another one: not if that would take
// out of the house what the other one keeps in, and not where the request fits nowhere.
func (c *call) mayKeep(kept, matched *router.Route) bool {
	if matched.Plan.StaysLocal() && !kept.Plan.StaysLocal() {
		return false
	}
	fits := anyTarget
	if c.up.Head != nil && c.task.endpoint.Texts {
		fits = c.fits
	}
	return kept.Plan.Any(c.localOnly, fits)
}
