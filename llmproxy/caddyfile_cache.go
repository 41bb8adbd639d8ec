package llmproxy

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

func (h *Handler) parseCache(d *caddyfile.Dispenser) error {
	if h.Cache != nil {
		return d.Err("cache: it stands in another line already")
	}
	h.Cache = new(Cache)
	if d.NextArg() {
		h.Cache.Name = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := h.Cache.subdirective(d); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "ttl":
		return c.parseTTL(d)
	case "max_size":
		return parseSize(d, &c.MaxSize)
	case "max_entry":
		return parseSize(d, &c.MaxEntry)
	case "store":
		return oneOf(d, &c.Store, inMemory, inRedis)
	case "scope":
		return oneOf(d, &c.Scope, scopeKey, scopeSite)
	case "endpoints":
		return c.parseEndpoints(d)
	case "deterministic_only":
		return parseFlag(d, &c.DeterministicOnly)
	case "keep_cut":
		return parseFlag(d, &c.KeepCut)
	case "vary":
		names := d.RemainingArgs()
		if len(names) == 0 {
			return d.ArgErr()
		}
		c.Vary = append(c.Vary, names...)
		return nil
	default:
		return d.Errf("unknown subdirective %q of cache: expected store, ttl, max_size, max_entry, scope, endpoints, deterministic_only, keep_cut or vary", name)
	}
}

func (c *Cache) parseTTL(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return d.ArgErr()
	}
	for i, to := range []*caddy.Duration{&c.TTL, &c.MaxTTL}[:len(args)] {
		value, err := caddy.ParseDuration(args[i])
		if err != nil || value <= 0 {
			return d.Errf("ttl: %q is not a duration such as 1h", args[i])
		}
		*to = caddy.Duration(value)
	}
	if c.MaxTTL != 0 && c.MaxTTL < c.TTL {
		return d.Errf("ttl: the longest time, %s, is shorter than the usual one, %s", args[1], args[0])
	}
	return nil
}

func (c *Cache) parseEndpoints(d *caddyfile.Dispenser) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.ArgErr()
	}
	for _, name := range names {
		if !slices.Contains(cacheableEndpoints, name) {
			return d.Errf("endpoints: answers of %q are not kept; expected %s", name, strings.Join(cacheableEndpoints, ", "))
		}
	}
	c.Endpoints = append(c.Endpoints, names...)
	return nil
}

func parseSize(d *caddyfile.Dispenser, to *int64) error {
	name := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<50 {
		return d.Errf("%s: %q is not a size such as 32MiB", name, text)
	}
	*to = int64(size)
	return nil
}

func oneOf(d *caddyfile.Dispenser, to *string, words ...string) error {
	name := d.Val()
	if !d.AllArgs(to) {
		return d.ArgErr()
	}
	if !slices.Contains(words, *to) {
		return d.Errf("%s: %q is not one of %s", name, *to, strings.Join(words, ", "))
	}
	return nil
}

func parseFlag(d *caddyfile.Dispenser, to *bool) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	*to = true
	return nil
}
