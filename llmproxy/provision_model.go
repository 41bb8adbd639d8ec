package llmproxy

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func compile(upstreams []*upstream.Upstream, models []*Model, matchers []caddyhttp.MatcherSets) (*router.Table, error) {
	var routes []*router.Upstream
	for _, u := range upstreams {
		routes = append(routes, u.Route)
	}
	var list []router.Model
	rules := 0
	for _, m := range models {
		policy, err := m.policy()
		if err != nil {
			return nil, err
		}
		list = append(list, router.Model{Name: m.Name, Routes: m.routes(matchers, rules), Pools: m.pools(policy), LocalOnly: m.LocalOnly})
		rules += len(m.Routes)
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
