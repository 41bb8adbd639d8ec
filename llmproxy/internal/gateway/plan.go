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

// plan returns the plan for the request: its model's plan, after following its routes. It also returns whether the request must stay on
// local upstreams.
func (g *Gateway) plan(x *exchange.Exchange, body *reqbody.Body, local bool) (_ *router.Plan, _ bool, err *openai.Error) {
	rec := x.Record
	local = local || g.LocalOnly != nil && g.LocalOnly(x.Request, rec)
	plan, err := g.catalog.Plan(x.Request.Context(), rec.Model, local)
	if err != nil {
		return nil, local, err
	}
	plan, rec.Routing = g.followRoutes(x, body, plan, local)
	local = rec.LocalOnly
	if local && !plan.HasLocal() {
		return nil, local, &openai.Error{Status: http.StatusForbidden, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_allowed",
			Message: fmt.Sprintf("This request must stay on local upstreams, and the model %q has none.", rec.Model)}
	}
	return plan, local, nil
}

// followRoutes follows the routes of a plan to one that has none.
func (g *Gateway) followRoutes(x *exchange.Exchange, body *reqbody.Body, plan *router.Plan, local bool) (*router.Plan, exchange.Routing) {
	routing := exchange.Routing{Rule: plan.Rule, Route: plan.Rule, LocalOnly: local || plan.LocalOnly}
	if len(plan.Routes) == 0 {
		return plan, routing
	}
	session, previous := g.Affinity.find(x.Request, x.Record.Identity, x.Record.Model)
	var rules []string
	apart := false
	for len(plan.Routes) > 0 {
		routing.LocalOnly = routing.LocalOnly || plan.LocalOnly
		route := g.match(x, plan, &routing)
		apart = apart || route.Sessionless
		if kept := sessionRoute(plan, previous, len(rules)); !apart && kept != nil && kept != route && g.mayKeep(x, body, routing.LocalOnly, kept, route) {
			route, routing.SessionRoute = kept, true
		}
		rules = append(rules, route.Rule)
		plan = route.Plan
	}
	routing.Route = strings.Join(rules, ">")
	routing.LocalOnly = routing.LocalOnly || plan.LocalOnly
	if !apart {
		g.Affinity.keep(session, rules)
	}
	return plan, routing
}

// match returns the first route that the request matches. Every request matches the last route. It also records the first matching
// shadow route before that.
func (g *Gateway) match(x *exchange.Exchange, plan *router.Plan, routing *exchange.Routing) *router.Route {
	for i := range plan.Routes {
		r := &plan.Routes[i]
		if r.Matcher != nil && !r.Matcher.(Matcher).Match(x.Request, x.Record) {
			continue
		}
		if !r.Shadow {
			return r
		}
		if routing.Shadow == "" {
			routing.Shadow = r.Rule
		}
	}
	return &plan.Routes[len(plan.Routes)-1]
}

// sessionRoute returns the route of the plan that a session took before, at this depth of its rules. It returns nil if the session is new,
// or if the configuration no longer has the route.
func sessionRoute(plan *router.Plan, rules []string, depth int) *router.Route {
	if depth >= len(rules) {
		return nil
	}
	for i := range plan.Routes {
		if r := &plan.Routes[i]; r.Rule == rules[depth] && !r.Shadow && !r.Sessionless {
			return r
		}
	}
	return nil
}

// mayKeep reports whether a session may stay on its route although the request matches another one. It may not if the matched route is
// local and the kept one is not, or if no target of the kept route can take the request.
func (g *Gateway) mayKeep(x *exchange.Exchange, body *reqbody.Body, local bool, kept, matched *router.Route) bool {
	if matched.Plan.StaysLocal() && !kept.Plan.StaysLocal() {
		return false
	}
	fits := func(router.Target) bool { return true }
	if request := body.JSON(); request != nil && x.Endpoint.Texts {
		fits = func(t router.Target) bool { return g.delivery.Fits(request, x.Record.Model, t) }
	}
	return kept.Plan.Any(local, fits)
}
