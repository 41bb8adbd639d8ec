package llmproxy

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func (c *Cache) parseSemantic(d *caddyfile.Dispenser) error {
	if c.Semantic != nil {
		return d.Err("semantic: it stands in another line already")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	c.Semantic = new(Semantic)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := c.Semantic.subdirective(d); err != nil {
			return err
		}
	}
	if c.Semantic.Embed == "" {
		return d.Err("semantic: what embeds is not said: write embed <upstream>/<model>")
	}
	return nil
}

func (s *Semantic) subdirective(d *caddyfile.Dispenser) error {
	name := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	switch name {
	case "embed":
		if u, model, _ := strings.Cut(text, "/"); u == "" || model == "" {
			return d.Errf("embed: %q is no target: write the upstream and its model there, such as gpu/nomic-embed-text", text)
		}
		s.Embed = text
	case "threshold":
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || !(value > 0 && value <= 1) {
			return d.Errf("threshold: %q is not a number above 0 and at most 1, such as 0.95", text)
		}
		s.Threshold = value
	case "max_entries":
		value, err := strconv.Atoi(text)
		if err != nil || value <= 0 {
			return d.Errf("max_entries: %q is not a number such as 10000", text)
		}
		s.MaxEntries = value
	case "timeout":
		value, err := caddy.ParseDuration(text)
		if err != nil || value <= 0 {
			return d.Errf("timeout: %q is not a duration such as 500ms", text)
		}
		s.Timeout = caddy.Duration(value)
	default:
		return d.Errf("unknown subdirective %q of semantic: expected embed, threshold, max_entries or timeout", name)
	}
	return nil
}
