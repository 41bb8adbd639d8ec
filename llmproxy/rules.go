package llmproxy

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

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
	h.rules = nil
	for _, m := range h.Models {
		for _, r := range m.Routes {
			var sets caddyhttp.MatcherSets
			if len(r.MatcherSetsRaw) > 0 {
				if sets, err = h.loadMatchers(r, "MatcherSetsRaw"); err != nil {
					return fmt.Errorf("model %q: route @%s: %w", m.Name, r.Name, err)
				}
			}
			h.rules = append(h.rules, sets)
		}
	}
	return nil
}

// routes are the model's rules as the router has them. Matchers are those of all models; first is the number of this one's
// first. Loading has emptied the raw ones.
func (m *Model) routes(matchers []caddyhttp.MatcherSets, first int) (list []router.RouteConfig) {
	for i, r := range m.Routes {
		config := router.RouteConfig{Match: first + i, Targets: r.To, Shadow: r.Shadow}
		switch {
		case len(matchers[first+i]) == 0:
		case r.Name == "":
			config.Matcher = "@" + strconv.Itoa(i+1)
		default:
			config.Matcher = "@" + r.Name
		}
		list = append(list, config)
	}
	return list
}

// ruled is what the gateway needs of the rules; nothing of it is there where there are none.
func (h *Handler) ruled(c *gateway.Config) {
	if len(h.rules) > 0 {
		c.Matches, c.Affinity = h.matches, h.pins()
	}
	if h.LocalOnly || len(h.localOnly) > 0 {
		c.LocalOnly = h.mustStay
	}
}

// matches tells whether a request matches a rule. One that cannot be judged does not.
func (h *Handler) matches(r *http.Request, rec *exchange.Record, match int) bool {
	matched, err := h.rules[match].AnyMatchWithError(r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	if err != nil {
		h.logger.Error("a route's matcher failed; the route is passed over", zap.String("id", rec.ID), zap.Error(err))
	}
	return matched && err == nil
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
