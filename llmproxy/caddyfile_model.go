package llmproxy

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// parseModel reads a model: its short form, or a block.
func parseModel(d *caddyfile.Dispenser) (*Model, error) {
	m := new(Model)
	var named map[string]caddy.ModuleMap
	if !d.Args(&m.Name) || m.Name == "" {
		return nil, d.Err("a model needs a name: model gpt-4o openai/gpt-4o")
	}
	m.To = d.RemainingArgs()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := m.subdirective(d, &named); err != nil {
			return nil, err
		}
	}
	for _, r := range m.Routes {
		if set, ok := named[r.Name]; ok {
			r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
		}
	}
	if len(m.To) == 0 && len(m.Routes) == 0 {
		return nil, d.Errf("model %s has no target: say `to upstream/model`", m.Name)
	}
	return m, nil
}

func (m *Model) subdirective(d *caddyfile.Dispenser, named *map[string]caddy.ModuleMap) error {
	name := d.Val()
	switch {
	case strings.HasPrefix(name, "@"):
		return parseMatcher(d, named)
	case name == "route":
		return m.parseRoute(d)
	case name == "local_only":
		if d.NextArg() {
			return d.Err("local_only of a model takes no matcher: write it outside of the model")
		}
		m.LocalOnly = true
		return nil
	}
	args := d.RemainingArgs()
	parse, ok := targetSubdirectives[name]
	switch {
	case name == "limit" && len(args) == 0:
		m.Limit = new(keys.Limits)
		return parseLimits(d, m.Limit)
	case name == "limit", ok && len(args) == 0:
		return d.ArgErr()
	case ok:
		return parse(m, d, args)
	}
	return d.Errf("unknown subdirective %q of model: expected to, weight, lb_policy, fallback, limit, route, local_only or a matcher such as @hard", name)
}

// targetSubdirectives are those of a model that take arguments.
var targetSubdirectives = map[string]func(*Model, *caddyfile.Dispenser, []string) error{
	"to":        (*Model).parseTo,
	"fallback":  (*Model).parseFallback,
	"weight":    (*Model).parseWeights,
	"lb_policy": (*Model).parsePolicy,
}

func (m *Model) parseTo(_ *caddyfile.Dispenser, args []string) error {
	m.To = append(m.To, args...)
	return nil
}

func (m *Model) parseFallback(_ *caddyfile.Dispenser, args []string) error {
	m.Fallbacks = append(m.Fallbacks, args)
	return nil
}

func (m *Model) parsePolicy(d *caddyfile.Dispenser, args []string) error {
	if len(args) > 1 {
		return d.ArgErr()
	}
	if _, err := router.ParsePolicy(args[0]); err != nil {
		return d.WrapErr(err)
	}
	m.LBPolicy = args[0]
	return nil
}

func (m *Model) parseWeights(d *caddyfile.Dispenser, args []string) error {
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return d.Errf("weight: %q is not a whole number of at least 0", arg)
		}
		m.Weights = append(m.Weights, n)
	}
	return nil
}

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
