package llmproxy

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

func parseKey(d *caddyfile.Dispenser, h *Handler) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name, &e.Secret) || d.NextArg() {
		return d.Err("key: use a name and a secret: key alice {env.ALICE_KEY}, or sha256:HEX as printed by `caddy llm-key create`")
	}
	// Adapted configuration may be printed, stored and shown by the admin API, so it must not contain secrets. Placeholders are
	// replaced and hashed when the configuration is loaded.
	isPlaceholder := strings.HasPrefix(e.Secret, "{") && strings.HasSuffix(e.Secret, "}") || strings.Contains(e.Secret, "{env.") || strings.Contains(e.Secret, "{file.")
	if !keys.IsDigest(e.Secret) && !isPlaceholder {
		e.Secret = keys.Digest(e.Secret)
	}
	h.Keys = append(h.Keys, e)
	return parseKeyBlock(d, e)
}

func parseUser(d *caddyfile.Dispenser, h *Handler) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name) || d.NextArg() {
		return d.Err("user: use a name and nothing else: user alice { ... }")
	}
	h.Users = append(h.Users, e)
	return parseKeyBlock(d, e)
}

// parseKeyBlock parses the block of a key or a user.
func parseKeyBlock(d *caddyfile.Dispenser, e *keys.Entry) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := parseKeyLine(d, e); err != nil {
			return err
		}
	}
	if err := e.Check(); err != nil {
		return d.Errf("%.80q: %w", e.Name, err)
	}
	return nil
}

func parseKeyLine(d *caddyfile.Dispenser, e *keys.Entry) error {
	switch name := d.Val(); name {
	case "models":
		return parseStrings(d, &e.Models)
	case "tags":
		return parseStrings(d, &e.Tags)
	case "expires":
		return parseString(d, &e.Expires)
	case "local_only":
		return parseFlag(d, &e.LocalOnly)
	case "priority":
		if err := parseString(d, &e.Priority); err != nil {
			return err
		}
		if _, err := replica.ParsePriority(e.Priority); err != nil {
			return d.Errf("priority: %w", err)
		}
		return nil
	default:
		known, err := parseLimitLine(d, &e.Limits)
		if !known {
			return d.Errf("unknown subdirective %q of a key: expected models, rate, tokens, concurrent, budget, local_only, priority, expires or tags", name)
		}
		return err
	}
}

func parseSiteLimit(d *caddyfile.Dispenser, h *Handler) error {
	if h.Limit != nil {
		return d.Err("limit: duplicate block; write all limits in one")
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

// parseLimits parses a block of limits.
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

// parseLimitLine parses a limit. It reports false if the line is not one.
func parseLimitLine(d *caddyfile.Dispenser, l *keys.Limits) (known bool, err error) {
	name := d.Val()
	switch name {
	case "rate", "tokens", "budget", "concurrent":
	default:
		return false, nil
	}
	args := d.RemainingArgs()
	if len(args) == 0 || name == "concurrent" && len(args) > 1 {
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
			if err != nil || l.Concurrent < 1 {
				return true, d.Errf("concurrent: invalid number %q; use a whole number of at least 1", arg)
			}
		}
		if err != nil {
			return true, d.Errf("%s: %w", name, err)
		}
	}
	return true, nil
}

func parseRateLimit(d *caddyfile.Dispenser, h *Handler) error {
	if err := parseStrings(d, &h.RateLimit); err != nil {
		return err
	}
	if _, err := parseAnonymousLimits(h.RateLimit); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
