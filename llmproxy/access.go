package llmproxy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// A SiteLimit limits all requests together.
type SiteLimit struct {
	// The name of the limit. Handlers whose limits have the same name are counted together, also on other Caddys that share
	// the state. Default: site.
	Name string `json:"name,omitempty"`

	keys.Limits
}

// provisionAccess returns the keys and limits of callers, or nil if none are configured.
func (h *Handler) provisionAccess(ctx caddy.Context, store *storage) (*access.Access, error) {
	a := &access.Access{User: authenticatedUser, Address: clientAddress, BudgetUsed: h.observer.BudgetUsed, BudgetRefused: h.observer.BudgetRefused}
	if len(h.Keys)+len(h.Users) > 0 || h.KeysFile != "" || h.RequireKey {
		inline, err := keystore.HashSecrets(h.Keys)
		if err != nil {
			return nil, placeKeys(err, len(h.Keys))
		}
		kept, err := store.keyStore(h.KeysFile)
		if err != nil {
			return nil, at(place("").in("keys_file", 0), err)
		}
		keyring, err := keystore.NewKeyring(&h.closer, kept, inline, h.Users, ctx.Logger())
		if err != nil {
			return nil, placeKeys(err, len(h.Keys))
		}
		a.Keys, a.SharedKeys = keyring.Current, store.client != nil && h.KeysFile == ""
	}
	var err error
	if h.Limit != nil {
		if a.Site, err = h.Limit.For("site/" + cmp.Or(h.Limit.Name, "site")); err != nil {
			return nil, fmt.Errorf("limit: %w", err)
		}
	}
	if a.Models, err = modelLimits(h.Models); err != nil {
		return nil, err
	}
	if a.Anonymous, err = parseAnonymousLimits(h.RateLimit); err != nil {
		return nil, err
	}
	if a.Keys == nil && len(a.Site)+len(a.Models)+len(a.Anonymous) == 0 {
		return nil, nil
	}
	a.Limiter, err = store.limiter()
	return a, err
}

// provisionSpillBudgets returns the budgets of requests that go on to the next pool because of load.
func (h *Handler) provisionSpillBudgets(store *storage) (map[*admission.Spill]delivery.SpillBudget, error) {
	budgets := map[*admission.Spill]delivery.SpillBudget{}
	for i, m := range h.Models {
		limits, err := m.spillLimits()
		if err != nil {
			return nil, modelPlace(i).errorf("model %q: %w", m.Name, err)
		}
		if len(limits) == 0 {
			continue
		}
		limiter, err := store.limiter()
		if err != nil {
			return nil, err
		}
		budgets[m.spill] = &access.SpillBudget{Limiter: limiter, Limits: limits, Used: h.observer.BudgetUsed}
	}
	return budgets, nil
}

// modelLimits returns the limits of models, by name.
func modelLimits(models []*Model) (map[string][]*ratelimit.Limit, error) {
	byName := map[string][]*ratelimit.Limit{}
	for _, m := range models {
		limits, err := m.Limit.For("model/" + m.Name)
		if err != nil {
			return nil, fmt.Errorf("model %q: limit: %w", m.Name, err)
		}
		if len(limits) > 0 {
			byName[m.Name] = limits
		}
	}
	return byName, nil
}

// parseAnonymousLimits returns the rate limits of each address without a key.
func parseAnonymousLimits(rates []string) (rules []ratelimit.Rule, err error) {
	if len(rates) > access.MaxAnonymous {
		return nil, fmt.Errorf("rate_limit: %d rates are given; at most %d are allowed", len(rates), access.MaxAnonymous)
	}
	for _, rate := range rates {
		rule, err := ratelimit.ParseRate(ratelimit.Requests, rate)
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

// clientAddress returns the client's address, which trusted_proxies may determine. It is invalid if it is not known.
func clientAddress(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address
}

// clientNetwork returns the client's address, or the /64 of an IPv6 address, because a client has all of it.
func clientNetwork(r *http.Request) netip.Addr { return ratelimit.Network(clientAddress(r)) }

// authenticatedUser returns the user that another handler authenticated, or an empty name.
func authenticatedUser(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	user, _ := repl.GetString(telemetry.UserID)
	return user
}
