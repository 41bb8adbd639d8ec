package llmproxy

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keystore"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/telemetry"
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
	a := &access.Access{User: userOf, Address: clientAddress, BudgetUsed: h.observer.BudgetUsed, BudgetRefused: h.observer.BudgetRefused}
	if ring != nil {
		a.Keys = ring.Current
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
	a.Anonymous, err = h.anonymous()
	return err
}

// anonymous returns the rules for the addresses of callers without a key.
func (h *Handler) anonymous() (rules []ratelimit.Rule, err error) {
	if len(h.RateLimit) > access.MaxAnonymous {
		return nil, fmt.Errorf("rate_limit: %d rates are given; at most %d are allowed", len(h.RateLimit), access.MaxAnonymous)
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

// keyring returns the handler's keys; nil if anybody may call.
func (h *Handler) keyring() (*keystore.Keyring, error) {
	if len(h.Keys)+len(h.Users) == 0 && h.KeysFile == "" && !h.RequireKey {
		return nil, nil
	}
	inline, err := keystore.HashSecrets(h.Keys)
	if err != nil {
		return nil, err
	}
	store, err := h.keyStore()
	if err != nil {
		return nil, err
	}
	return keystore.NewKeyring(&h.closer, store, inline, h.Users, h.logger)
}

// keyStore returns where the keys are kept that change while Caddy runs: the file of keys, else the shared state, else this
// machine.
func (h *Handler) keyStore() (*keystore.Store, error) {
	if h.KeysFile != "" {
		path, err := filepath.Abs(caddy.NewReplacer().ReplaceKnown(h.KeysFile, ""))
		if err != nil {
			return nil, err
		}
		return keystore.OpenFile(&h.closer, path)
	}
	client, err := h.redis()
	if err != nil {
		return nil, err
	}
	if client != nil {
		return keystore.OpenRedis(&h.closer, client, h.State.address())
	}
	return keystore.OpenLocal(&h.closer)
}

func userOf(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString(telemetry.UserID)
	return id
}
