package llmproxy

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

func parseKey(d *dispenser, h *Handler) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name, &e.Secret) || d.NextArg() {
		if len(d.words) > 2 && strings.EqualFold(d.words[1], "bearer") {
			return d.Errf("key %.80q: write the secret alone, without %q", d.words[0], d.words[1])
		}
		return d.Err("key: use a name and a secret, such as key alice {env.ALICE_KEY}, or the line that `caddy llm-key create` prints" + d.hintIfFewer(2))
	}
	// Adapted configuration may be printed, stored and shown by the admin API, so it must not contain secrets. Placeholders are
	// replaced and hashed when the configuration is loaded.
	isPlaceholder := strings.HasPrefix(e.Secret, "{") && strings.HasSuffix(e.Secret, "}") || strings.Contains(e.Secret, "{env.") || strings.Contains(e.Secret, "{file.")
	if !keys.IsDigest(e.Secret) && !isPlaceholder {
		if err := checkSecret("secret", e.Secret); err != nil {
			return d.Errf("key %.80q: %w", e.Name, err)
		}
		if len(e.Secret) < keys.MinSecret {
			return d.Errf("key %.80q: the secret has only %d characters; use at least %d, or create one with `caddy llm-key create`", e.Name, len(e.Secret), keys.MinSecret)
		}
		e.Secret = keys.Digest(e.Secret)
	}
	h.Keys = append(h.Keys, e)
	return parseKeyBlock(d, e)
}

func parseUser(d *dispenser, h *Handler) error {
	e := new(keys.Entry)
	if !d.Args(&e.Name) || d.NextArg() {
		return d.Err("user: use one name, such as user alice")
	}
	h.Users = append(h.Users, e)
	return parseKeyBlock(d, e)
}

// parseKeyBlock parses the block of a key or a user.
func parseKeyBlock(d *dispenser, e *keys.Entry) error {
	return parseBlock(d, "a key", keySubdirectives, e, nil)
}

var keySubdirectives = subdirectives[*keys.Entry]{
	"models":     func(d *dispenser, e *keys.Entry) error { return parseStrings(d, &e.Models) },
	"rate":       func(d *dispenser, e *keys.Entry) error { return parseRates(d, ratelimit.Requests, &e.Rate) },
	"tokens":     func(d *dispenser, e *keys.Entry) error { return parseRates(d, ratelimit.Tokens, &e.Tokens) },
	"concurrent": func(d *dispenser, e *keys.Entry) error { return parseConcurrent(d, &e.Concurrent) },
	"budget":     func(d *dispenser, e *keys.Entry) error { return parseBudgets(d, &e.Budget) },
	"local_only": func(d *dispenser, e *keys.Entry) error { return parseFlag(d, &e.LocalOnly) },
	"priority":   parseKeyPriority,
	"weight":     parseKeyWeight,
	"admin":      func(d *dispenser, e *keys.Entry) error { return parseFlag(d, &e.Admin) },
	"expires":    func(d *dispenser, e *keys.Entry) error { return parseString(d, &e.Expires) },
	"tags":       func(d *dispenser, e *keys.Entry) error { return parseStrings(d, &e.Tags) },
}

func parseKeyPriority(d *dispenser, e *keys.Entry) error {
	if err := parseString(d, &e.Priority); err != nil {
		return err
	}
	if _, err := admission.ParsePriority(e.Priority); err != nil {
		return d.Errf("priority: %w", err)
	}
	return nil
}

func parseKeyWeight(d *dispenser, e *keys.Entry) (err error) {
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	if e.Weight, err = parseCount(d, "weight", text, 1); err == nil && e.Weight > admission.MaxWeight {
		err = d.Errf("weight %d is out of range: use 1 to %d", e.Weight, admission.MaxWeight)
	}
	return err
}

func parseSiteLimit(d *dispenser, h *Handler) error {
	if h.Limit != nil {
		return d.Err("limit: duplicate block; write all limits in one")
	}
	h.Limit = new(SiteLimit)
	if err := parseOptional(d, &h.Limit.Name); err != nil {
		return err
	}
	return parseLimits(d, &h.Limit.Limits)
}

// parseLimits parses a block of limits.
func parseLimits(d *dispenser, l *keys.Limits) error {
	if err := parseBlock(d, "limit", limitSubdirectives, l, nil); err != nil {
		return err
	}
	if _, err := l.For(""); err != nil {
		return d.Errf("limit: %w", err)
	}
	return nil
}

var limitSubdirectives = subdirectives[*keys.Limits]{
	"rate":       func(d *dispenser, l *keys.Limits) error { return parseRates(d, ratelimit.Requests, &l.Rate) },
	"tokens":     func(d *dispenser, l *keys.Limits) error { return parseRates(d, ratelimit.Tokens, &l.Tokens) },
	"concurrent": func(d *dispenser, l *keys.Limits) error { return parseConcurrent(d, &l.Concurrent) },
	"budget":     func(d *dispenser, l *keys.Limits) error { return parseBudgets(d, &l.Budget) },
}

func parseRates(d *dispenser, unit ratelimit.Unit, to *[]string) error {
	return parseChecked(d, to, func(text string) error { _, err := ratelimit.ParseRate(unit, text); return err })
}

func parseBudgets(d *dispenser, to *[]string) error {
	return parseChecked(d, to, func(text string) error { _, err := ratelimit.ParseBudget(text); return err })
}

// parseChecked parses strings that must pass a check. If they do only without the spaces between them, it says so.
func parseChecked(d *dispenser, to *[]string, check func(string) error) error {
	name, before := d.Val(), len(*to)
	if err := parseStrings(d, to); err != nil {
		return err
	}
	for _, text := range (*to)[before:] {
		if err := check(text); err != nil {
			if together := strings.Join(d.words, ""); len(d.words) > 1 && check(together) == nil {
				return d.Errf("%s: write %s without spaces", name, together)
			}
			return d.Errf("%s: %w", name, err)
		}
	}
	return nil
}

func parseConcurrent(d *dispenser, to *int64) error {
	var text string
	if err := parseString(d, &text); err != nil {
		return err
	}
	n, err := parseCount(d, "concurrent", text, 1)
	*to = int64(n)
	return err
}

func parseRateLimit(d *dispenser, h *Handler) error {
	if err := parseRates(d, ratelimit.Requests, &h.RateLimit); err != nil {
		return err
	}
	if _, err := parseAnonymousLimits(h.RateLimit); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
