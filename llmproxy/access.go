package llmproxy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A SiteLimit bounds all requests together.
type SiteLimit struct {
	// Handlers whose limits have the same name are counted together, also on other Caddys that share the state. Default: site.
	Name string `json:"name,omitempty"`

	keys.Limits
}

// access makes who may call, and how much; nil if anybody may as much as they like.
func (h *Handler) access() (*access.Access, error) {
	ring, err := h.keyring()
	if err != nil {
		return nil, err
	}
	h.spent = h.spentBudgets()
	a := &access.Access{User: userOf, Address: clientAddress, BudgetUsed: h.crossed, BudgetRefused: h.refused}
	if ring != nil {
		a.Keys = ring.current
	}
	if err := h.addLimits(a); err != nil {
		return nil, err
	}
	if ring == nil && len(a.Site)+len(a.Models)+len(a.Anonymous) == 0 {
		return nil, nil
	}
	a.Limiter, err = h.limiter()
	return a, err
}

func (h *Handler) addLimits(a *access.Access) (err error) {
	if h.Limit != nil {
		if a.Site, err = h.Limit.For("site/" + cmp.Or(h.Limit.Name, "site")); err != nil {
			return fmt.Errorf("limit: %w", err)
		}
	}
	for _, m := range h.Models {
		limits, err := m.Limit.For("model/" + m.Name)
		if err != nil {
			return fmt.Errorf("model %q: limit: %w", m.Name, err)
		}
		if len(limits) > 0 {
			if a.Models == nil {
				a.Models = map[string][]*ratelimit.Limit{}
			}
			a.Models[m.Name] = limits
		}
	}
	a.Anonymous, err = h.strangers()
	return err
}

// strangers are the rules for the addresses of callers without a key.
func (h *Handler) strangers() (rules []ratelimit.Rule, err error) {
	if len(h.RateLimit) > access.MaxAnonymous {
		return nil, fmt.Errorf("rate_limit: %d rates are given, at most %d are possible", len(h.RateLimit), access.MaxAnonymous)
	}
	for _, text := range h.RateLimit {
		rule, err := ratelimit.ParseRate(ratelimit.Requests, text)
		if err != nil {
			return nil, fmt.Errorf("rate_limit: %w", err)
		}
		rules = append(rules, rule)
	}
	if err := ratelimit.Distinct(rules); err != nil {
		return nil, fmt.Errorf("rate_limit: %w", err)
	}
	return rules, nil
}

// clientAddress is the client's, as Caddy's trusted_proxies find it.
func clientAddress(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address
}
