package llmproxy

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Model is a name that clients use.
type Model struct {
	// The name. An asterisk in it stands for any characters; exact names go before patterns, and patterns in their order.
	Name string `json:"name"`

	// Rules by content: the first that matches takes the request. Default: none.
	Routes []*Route `json:"routes,omitempty"`

	// The targets that are tried as equals, written upstream/model, or upstream alone to keep the client's name. Not needed
	// where the last route has no matcher.
	To []string `json:"to,omitempty"`

	// One for each target of "to". Default: equal.
	Weights []int `json:"weights,omitempty"`

	// Which of the equals is next: first, round_robin, random, weighted or least_busy. Default: least_busy, or weighted
	// where there are weights.
	LBPolicy string `json:"lb_policy,omitempty"`

	// What all requests for it together may use. Default: no limits.
	Limit *keys.Limits `json:"limit,omitempty"`

	// Each one the targets to try when those before failed, or, alone, the name of another model.
	Fallbacks [][]string `json:"fallbacks,omitempty"`

	// Requests for it never leave for an upstream that is not local, whatever fails. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`
}

// A Route is a rule of a model.
type Route struct {
	// Its name in X-LLM-Route, where "@" stands before it. Default: its number, from 1 on.
	Name string `json:"name,omitempty"`

	// Which requests it takes. Default: all; it must be the last one then.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Where they go: targets that are tried as equals, or, alone, the name of another model.
	To []string `json:"to"`

	// Only log and record what the rule would have done. Default: false.
	Shadow bool `json:"shadow,omitempty"`

	matcher gateway.Matcher // nil if it takes all
}

func compile(upstreams []*upstream.Upstream, models []*Model) (*router.Table, error) {
	var routes []*router.Upstream
	for _, u := range upstreams {
		routes = append(routes, u.Route)
	}
	var list []router.Model
	for _, m := range models {
		policy, err := m.policy()
		if err != nil {
			return nil, err
		}
		list = append(list, router.Model{Name: m.Name, Routes: m.routes(), Pools: m.pools(policy), LocalOnly: m.LocalOnly})
	}
	return router.Compile(routes, list)
}

// pools are the model's own targets; none where its routes are all there is.
func (m *Model) pools(policy router.Policy) []router.PoolConfig {
	if len(m.To) == 0 && len(m.Fallbacks) == 0 && len(m.Routes) > 0 {
		return nil
	}
	pools := []router.PoolConfig{{Targets: m.To, Weights: m.Weights, Policy: policy}}
	for _, f := range m.Fallbacks {
		pools = append(pools, router.PoolConfig{Targets: f, Policy: router.LeastBusy})
	}
	return pools
}

func (m *Model) policy() (router.Policy, error) {
	policy, err := router.ParsePolicy(m.LBPolicy)
	switch {
	case err != nil:
		return "", fmt.Errorf("model %q: %w", m.Name, err)
	case len(m.Weights) == 0:
		return policy, nil
	case m.LBPolicy != "" && policy != router.Weighted:
		return "", fmt.Errorf("model %q: weights need lb_policy weighted, not %s", m.Name, policy)
	}
	return router.Weighted, nil
}

// recordKey is where the matchers of rules find the record in a request's context.
type recordKey struct{}

// loadMatchers makes matchers of a configuration's field.
func (h *Handler) loadMatchers(of any, field string) (sets caddyhttp.MatcherSets, err error) {
	modules, err := h.ctx.LoadModule(of, field)
	if err != nil {
		return nil, fmt.Errorf("loading matchers: %w", err)
	}
	if err := sets.FromInterface(modules); err != nil {
		return nil, fmt.Errorf("loading matchers: %w", err)
	}
	return sets, nil
}

// loadRules makes the matchers of every route and of what must stay local.
func (h *Handler) loadRules() (err error) {
	if len(h.LocalOnlyMatchRaw) > 0 {
		if h.localOnly, err = h.loadMatchers(h, "LocalOnlyMatchRaw"); err != nil {
			return fmt.Errorf("local_only: %w", err)
		}
	}
	for _, m := range h.Models {
		for _, r := range m.Routes {
			if len(r.MatcherSetsRaw) == 0 {
				continue
			}
			sets, err := h.loadMatchers(r, "MatcherSetsRaw")
			if err != nil {
				return fmt.Errorf("model %q: route @%s: %w", m.Name, r.Name, err)
			}
			r.matcher = routeMatcher{sets, h.logger}
		}
	}
	return nil
}

// routes returns the model's routes as the router has them. Their matchers are loaded.
func (m *Model) routes() (list []router.RouteConfig) {
	for i, r := range m.Routes {
		config := router.RouteConfig{Matcher: r.matcher, Targets: r.To, Shadow: r.Shadow}
		if r.matcher != nil {
			config.Name = "@" + cmp.Or(r.Name, strconv.Itoa(i+1))
		}
		list = append(list, config)
	}
	return list
}

// A routeMatcher is the gateway.Matcher of a route.
type routeMatcher struct {
	sets   caddyhttp.MatcherSets
	logger *zap.Logger
}

// Match implements gateway.Matcher. A request that cannot be judged does not match.
func (m routeMatcher) Match(r *http.Request, rec *exchange.Record) bool {
	matched, err := m.sets.AnyMatchWithError(r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	if err != nil {
		m.logger.Error("a route's matcher failed; the route is skipped", zap.String("id", rec.ID), zap.Error(err))
	}
	return matched && err == nil
}

// ruled is what the gateway needs of the rules; nothing of it is there where there are none.
func (h *Handler) ruled(c *gateway.Config) {
	if slices.ContainsFunc(h.Models, func(m *Model) bool { return len(m.Routes) > 0 }) {
		c.Affinity = h.affinity()
	}
	if h.LocalOnly || len(h.localOnly) > 0 {
		c.LocalOnly = h.mustStay
	}
}

// mustStay tells whether a request must not leave for an upstream that is not local. One that cannot be judged must not.
func (h *Handler) mustStay(r *http.Request, rec *exchange.Record) bool {
	if h.LocalOnly {
		return true
	}
	matched, err := h.localOnly.AnyMatchWithError(r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	if err != nil {
		h.logger.Error("a matcher of local_only failed; the request stays local", zap.String("id", rec.ID), zap.Error(err))
	}
	return matched || err != nil
}
