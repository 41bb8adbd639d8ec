package llmproxy

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseMatcher reads a named matcher, on one line or in a block; its name was just read.
func parseMatcher(d *caddyfile.Dispenser, named *map[string]caddy.ModuleMap) error {
	name := strings.TrimPrefix(d.Val(), "@")
	if name == "" {
		return d.Err("a matcher needs a name behind its @")
	}
	if _, ok := (*named)[name]; ok {
		return d.Errf("matcher @%s is defined twice", name)
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return d.Errf("matcher @%s matches nothing: say what it is to match", name)
	}
	if *named == nil {
		*named = map[string]caddy.ModuleMap{}
	}
	(*named)[name] = set
	return nil
}

// parseRoute reads a rule of a model. What its matcher is may stand further down.
func (m *Model) parseRoute(d *caddyfile.Dispenser) error {
	r := &Route{To: d.RemainingArgs()}
	if len(r.To) > 0 && strings.HasPrefix(r.To[0], "@") {
		r.Name, r.To = r.To[0][1:], r.To[1:]
	}
	if len(r.To) == 0 {
		return d.Err("a route needs a target: route @hard openai/gpt-4o")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "shadow" || d.NextArg() {
			return d.Errf("unknown subdirective %q of route: expected shadow", d.Val())
		}
		r.Shadow = true
	}
	m.Routes = append(m.Routes, r)
	return nil
}

// parseLocalOnly reads which requests must not leave: all, or those of any of the matchers, which may stand further down.
func (h *Handler) parseLocalOnly(d *caddyfile.Dispenser) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		h.LocalOnly = true
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "@") {
			return d.Errf("local_only: %q is no matcher: define one, and write its name with its @", name)
		}
		h.LocalOnlyMatchRaw = append(h.LocalOnlyMatchRaw, caddy.ModuleMap{name: nil})
	}
	return nil
}

// resolveMatchers puts the matchers of the block in the places where they are named.
func (h *Handler) resolveMatchers(d *caddyfile.Dispenser) error {
	for _, m := range h.Models {
		for _, r := range m.Routes {
			if r.Name == "" || r.MatcherSetsRaw != nil {
				continue
			}
			set, ok := h.named[r.Name]
			if !ok {
				return d.Errf("model %s: no matcher is named @%s: define it in the model or in llm_proxy", m.Name, r.Name)
			}
			r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
		}
	}
	for i, placeholder := range h.LocalOnlyMatchRaw {
		for name := range placeholder {
			set, ok := h.named[strings.TrimPrefix(name, "@")]
			if !ok {
				return d.Errf("local_only: no matcher is named %s: define it in llm_proxy", name)
			}
			h.LocalOnlyMatchRaw[i] = set
		}
	}
	return nil
}
