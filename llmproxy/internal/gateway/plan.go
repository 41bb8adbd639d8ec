package gateway

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// plan decides where the request goes: its model's plan, and in it what its rules say. Local reports whether the request must
// stay on local upstreams.
func (g *Gateway) plan(x *exchange.Exchange, body *reqbody.Body, local bool) (_ *router.Plan, _ bool, err *openai.Error) {
	rec := x.Record
	local = local || g.LocalOnly != nil && g.LocalOnly(x.Request, rec)
	plan, err := g.catalog.Plan(x.Request.Context(), rec.Model, local)
	if err != nil {
		return nil, local, err
	}
	plan, rec.Routing = g.choose(x, body, plan, local)
	local = rec.LocalOnly
	if local && !plan.Any(true, anyTarget) {
		return nil, local, &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_allowed",
			Message: fmt.Sprintf("This request must stay on local upstreams, and the model %q has none.", rec.Model)}
	}
	return plan, local, nil
}

func anyTarget(router.Target) bool { return true }

// choose follows the rules of a plan to where the request goes. A plan without rules costs one comparison.
func (g *Gateway) choose(x *exchange.Exchange, body *reqbody.Body, plan *router.Plan, local bool) (*router.Plan, exchange.Routing) {
	found := exchange.Routing{Rule: plan.Rule, Route: plan.Rule, LocalOnly: local || plan.LocalOnly}
	if len(plan.Routes) == 0 {
		return plan, found
	}
	session, before := g.Affinity.find(x.Request, x.Record.Key, x.Record.Model)
	var trail []string
	for len(plan.Routes) > 0 {
		found.LocalOnly = found.LocalOnly || plan.LocalOnly
		route := g.match(x, plan, &found)
		if kept := named(plan, before, len(trail)); kept != nil && kept != route && g.mayKeep(x, body, found.LocalOnly, kept, route) {
			route, found.Pinned = kept, true
		}
		trail = append(trail, route.Rule)
		plan = route.Plan
	}
	found.Route = strings.Join(trail, ">")
	found.LocalOnly = found.LocalOnly || plan.LocalOnly
	g.Affinity.keep(session, trail)
	return plan, found
}

// match returns the first route of the plan that the request matches; the last one it always does.
func (g *Gateway) match(x *exchange.Exchange, plan *router.Plan, found *exchange.Routing) *router.Route {
	for i := range plan.Routes {
		r := &plan.Routes[i]
		if r.Matcher != nil && !r.Matcher.(Matcher).Match(x.Request, x.Record) {
			continue
		}
		if !r.Shadow {
			return r
		}
		if found.Shadow == "" {
			found.Shadow = r.Rule
		}
	}
	return &plan.Routes[len(plan.Routes)-1]
}

// named returns the route of the plan that a session got at this depth; nil if it had none, or if a reload took it away.
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

// mayKeep reports whether a session may stay on its route where this request matches another one: not if that would let leave
// the house what the other one keeps in, and not where the request fits nowhere.
func (g *Gateway) mayKeep(x *exchange.Exchange, body *reqbody.Body, local bool, kept, matched *router.Route) bool {
	if matched.Plan.StaysLocal() && !kept.Plan.StaysLocal() {
		return false
	}
	fits := anyTarget
	if head := body.JSON(); head != nil && x.Endpoint.Texts {
		fits = func(t router.Target) bool { return g.delivery.Fits(head, x.Record.Model, t) }
	}
	return kept.Plan.Any(local, fits)
}
