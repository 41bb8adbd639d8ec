package llmproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// A Model is a name that clients use.
type Model struct {
	// The name. An asterisk stands for any characters. Exact names precede patterns, and patterns are tried in their order.
	Name string `json:"name"`

	// Routes by content. The first one that matches takes the request. Default: none.
	Routes []*Route `json:"routes,omitempty"`

	// The first pool of targets, tried as equals: upstream/model, or upstream alone to keep the name that the client asked
	// for. In the target of a pattern, an asterisk stands for what the pattern's asterisk matches. Default: none; required
	// unless the last route has no matcher.
	To []string `json:"to,omitempty"`

	// The weights of the targets in "to". Default: equal.
	Weights []int `json:"weights,omitempty"`

	// How to choose among the targets in "to": first, round_robin, random, weighted, least_busy or prefix. Default: weighted if there
	// are weights, else least_busy.
	LBPolicy string `json:"lb_policy,omitempty"`

	// The limits of all requests for the model together. Default: none.
	Limit *keys.Limits `json:"limit,omitempty"`

	// The next pools of targets, each tried after the previous one failed. A pool may be the name of another model instead.
	// Default: none.
	Fallbacks [][]string `json:"fallbacks,omitempty"`

	// Send a request on to the next pool at once if its first token is expected to take longer here and sooner there, and after so
	// long a wait in any case. Needs a fallback. Default: a request waits for as long as the queue allows.
	Spill caddy.Duration `json:"spill,omitempty"`

	// US dollars in a window, such as $2/day, that requests may cost which go on to the next pool because of load. If they are used
	// up, requests wait. Default: no limit.
	SpillBudget []string `json:"spill_budget,omitempty"`

	// Never send requests for the model to an upstream that is not local, whatever fails. Default: false.
	LocalOnly bool `json:"local_only,omitempty"`

	spill *admission.Spill // of Spill, once the model is compiled; nil for none
}

// A Route is a rule of a model.
type Route struct {
	// The name in X-LLM-Route, which prefixes it with "@". Default: the number of the route, from 1.
	Name string `json:"name,omitempty"`

	// Which requests the route takes. Default: all; it must be the last one then.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Where these requests go: targets tried as equals, or the name of another model.
	To []string `json:"to"`

	// Only log and record what the route would have done. Default: false.
	Shadow bool `json:"shadow,omitempty"`
}

// provisionModels returns the table of all models.
func provisionModels(ctx caddy.Context, upstreams []*upstream.Upstream, models []*Model) (*router.Table, error) {
	var routes []*router.Upstream
	for _, u := range upstreams {
		routes = append(routes, u.Route)
	}
	return compileModels(routes, models, func(m, n int, r *Route) (router.Matcher, error) {
		matcher, err := loadMatcher(ctx, r, "MatcherSetsRaw", len(r.MatcherSetsRaw))
		if err != nil {
			return nil, modelPlace(m).in("route", n).errorf("model %q: route @%s: %w", models[m].Name, r.Name, err)
		}
		if matcher == nil {
			return nil, nil
		}
		return matcher, nil
	})
}

// compileModels returns the table of all models. The function returns the matcher of the nth route of the mth model, or nil if it
// always matches.
func compileModels(upstreams []*router.Upstream, models []*Model, matcherOf func(m, n int, r *Route) (router.Matcher, error)) (*router.Table, error) {
	list := make([]router.Model, len(models))
	for i, m := range models {
		if m.spill = nil; m.Spill > 0 {
			m.spill = &admission.Spill{After: time.Duration(m.Spill)}
		}
		list[i] = router.Model{Name: m.Name, LocalOnly: m.LocalOnly, Spill: m.spill}
		for n, r := range m.Routes {
			route := router.RouteConfig{Targets: r.To, Shadow: r.Shadow}
			matcher, err := matcherOf(i, n, r)
			if err != nil {
				return nil, err
			}
			if matcher != nil {
				route.Name, route.Matcher = "@"+cmp.Or(r.Name, strconv.Itoa(n+1)), matcher
				if m, ok := matcher.(*requestMatcher); ok {
					route.Sessionless = m.sessionless()
				}
			}
			list[i].Routes = append(list[i].Routes, route)
		}
		policy, err := m.policy()
		if err != nil {
			return nil, modelPlace(i).in("weight", 0).errorf("model %q: %w", m.Name, err)
		}
		if len(m.To)+len(m.Fallbacks) > 0 || len(m.Routes) == 0 { // else the model has only routes
			list[i].Pools = append(list[i].Pools, router.PoolConfig{Targets: m.To, Weights: m.Weights, Policy: policy})
			for _, f := range m.Fallbacks {
				list[i].Pools = append(list[i].Pools, router.PoolConfig{Targets: f, Policy: router.LeastBusy})
			}
		}
	}
	table, err := router.Compile(upstreams, list)
	return table, placeModels(err)
}

// placeModels adds the places of models and their parts to errors about them.
func placeModels(err error) error {
	var errs []error
	for _, e := range flatten(err) {
		var wrong *router.ConfigError
		if errors.As(e, &wrong) {
			e = at(partPlace(wrong), e)
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

func partPlace(e *router.ConfigError) place {
	switch {
	case e.Upstream >= 0:
		return upstreamPlace(e.Upstream)
	case e.Route >= 0:
		return modelPlace(e.Model).in("route", e.Route)
	case e.Pool == 0:
		return modelPlace(e.Model).in("to", 0)
	case e.Pool > 0:
		return modelPlace(e.Model).in("fallback", e.Pool-1)
	}
	return modelPlace(e.Model)
}

func (m *Model) policy() (router.Policy, error) {
	policy, err := router.ParsePolicy(m.LBPolicy)
	switch {
	case err != nil || len(m.Weights) == 0:
		return policy, err
	case m.LBPolicy != "" && policy != router.Weighted:
		return "", fmt.Errorf("weights need lb_policy weighted, not %s", policy)
	}
	return router.Weighted, nil
}

// recordKey is the key of the record in the context of a request that matchers get.
type recordKey struct{}

// A requestMatcher is the sets of matchers of a route, or of local_only.
type requestMatcher struct {
	sets   caddyhttp.MatcherSets
	logger *zap.Logger
}

// loadMatcher loads the n sets of matchers in a field of a configuration. It returns nil if n is 0.
func loadMatcher(ctx caddy.Context, config any, field string, n int) (*requestMatcher, error) {
	if n == 0 {
		return nil, nil
	}
	modules, err := ctx.LoadModule(config, field)
	if err != nil {
		return nil, fmt.Errorf("loading matchers: %w", err)
	}
	m := &requestMatcher{logger: ctx.Logger()}
	if err := m.sets.FromInterface(modules); err != nil {
		return nil, fmt.Errorf("loading matchers: %w", err)
	}
	return m, nil
}

// sessionless reports whether one of its matchers says that the requests that it matches are not part of the conversation in whose
// session they are sent.
func (m *requestMatcher) sessionless() bool {
	return slices.ContainsFunc(m.sets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(matcher any) bool {
			m, ok := matcher.(interface{ Sessionless() bool })
			return ok && m.Sessionless()
		})
	})
}

// Match implements gateway.Matcher. A request whose matcher fails does not match.
func (m *requestMatcher) Match(r *http.Request, rec *exchange.Record) bool {
	matched, err := m.match(r, rec)
	return matched && err == nil
}

func (m *requestMatcher) match(r *http.Request, rec *exchange.Record) (bool, error) {
	matched, err := m.sets.AnyMatchWithError(r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	if err != nil {
		m.logger.Error("matcher failed; its route is skipped, or the request stays local", zap.String("id", rec.ID), zap.Error(err))
	}
	return matched, err
}
