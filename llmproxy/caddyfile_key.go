package llmproxy

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

func (h *Handler) parseKey(d *caddyfile.Dispenser) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name, &e.Secret) || d.NextArg() {
		return d.Err("a key needs a name and a secret: key alice {env.ALICE_KEY}, or sha256:HEX as `caddy llm-key create` prints it")
	}
	// What is adapted may be printed, stored and shown by the admin API, so that a secret must not stand in it. One that is a
	// placeholder, or has one in it, is only known when the configuration is loaded.
	placed := strings.HasPrefix(e.Secret, "{") && strings.HasSuffix(e.Secret, "}") || strings.Contains(e.Secret, "{env.") || strings.Contains(e.Secret, "{file.")
	if !keys.IsDigest(e.Secret) && !placed {
		e.Secret = keys.Digest(e.Secret)
	}
	h.Keys = append(h.Keys, e)
	return parseEntry(d, e)
}

func (h *Handler) parseUser(d *caddyfile.Dispenser) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name) || d.NextArg() {
		return d.Err("a user needs a name and nothing else: user alice { ... }")
	}
	h.Users = append(h.Users, e)
	return parseEntry(d, e)
}

// parseEntry reads the block of a key or a user.
func parseEntry(d *caddyfile.Dispenser, e *keys.Entry) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if known, err := parseLimitLine(d, &e.Limits); err != nil {
			return err
		} else if known {
			continue
		}
		args := d.RemainingArgs()
		switch {
		case name == "local_only" && len(args) == 0:
			e.LocalOnly = true
		case name == "models" && len(args) > 0:
			e.Models = append(e.Models, args...)
		case name == "tags" && len(args) > 0:
			e.Tags = append(e.Tags, args...)
		case name == "expires" && len(args) == 1:
			e.Expires = args[0]
		case name == "priority" && len(args) == 1:
			if _, err := replica.ParsePriority(args[0]); err != nil {
				return d.Errf("priority: %w", err)
			}
			e.Priority = args[0]
		case name == "local_only", name == "models", name == "tags", name == "expires", name == "priority":
			return d.ArgErr()
		default:
			return d.Errf("unknown subdirective %q of a key: expected models, rate, tokens, concurrent, budget, local_only, priority, expires or tags", name)
		}
	}
	if err := e.Check(); err != nil {
		return d.Errf("%.80q: %w", e.Name, err)
	}
	return nil
}

// parseLimitLine reads a line of limits, if it is one.
func parseLimitLine(d *caddyfile.Dispenser, l *keys.Limits) (known bool, err error) {
	name := d.Val()
	switch name {
	case "rate", "tokens", "budget", "concurrent":
	default:
		return false, nil
	}
	args := d.RemainingArgs()
	if len(args) == 0 {
		return true, d.ArgErr()
	}
	for _, arg := range args {
		switch name {
		case "rate":
			_, err = ratelimit.ParseRate(ratelimit.Requests, arg)
			l.Rate = append(l.Rate, arg)
		case "tokens":
			_, err = ratelimit.ParseRate(ratelimit.Tokens, arg)
			l.Tokens = append(l.Tokens, arg)
		case "budget":
			_, err = ratelimit.ParseBudget(arg)
			l.Budget = append(l.Budget, arg)
		case "concurrent":
			l.Concurrent, err = strconv.ParseInt(arg, 10, 64)
			if err != nil || l.Concurrent < 1 || len(args) > 1 {
				return true, d.Errf("concurrent: one whole number of at least 1 is expected")
			}
		}
		if err != nil {
			return true, d.Errf("%s: %w", name, err)
		}
	}
	return true, nil
}

func (h *Handler) parseKeysFile(d *caddyfile.Dispenser) error {
	if !d.AllArgs(&h.KeysFile) {
		return d.ArgErr()
	}
	return nil
}

func (h *Handler) parseRequireKey(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	h.RequireKey = true
	return nil
}

func (h *Handler) parseRateLimit(d *caddyfile.Dispenser) error {
	rates := d.RemainingArgs()
	if len(rates) == 0 {
		return d.ArgErr()
	}
	h.RateLimit = append(h.RateLimit, rates...)
	if _, err := h.anonymous(); err != nil {
		return d.Errf("%w", err)
	}
	return nil
}

func (h *Handler) parseLimit(d *caddyfile.Dispenser) error {
	if h.Limit != nil {
		return d.Err("limit is there twice: write all limits into one block")
	}
	h.Limit = new(SiteLimit)
	if d.NextArg() {
		h.Limit.Name = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	return parseLimits(d, &h.Limit.Limits)
}

// parseLimits reads a block of nothing but limits.
func parseLimits(d *caddyfile.Dispenser, l *keys.Limits) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		known, err := parseLimitLine(d, l)
		if err != nil {
			return err
		}
		if !known {
			return d.Errf("unknown limit %q: expected rate, tokens, concurrent or budget", d.Val())
		}
	}
	if _, err := l.For(""); err != nil {
		return d.Errf("limit: %w", err)
	}
	return nil
}
