package llmproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// parseModel parses a model: the short form with targets on the line, or a block.
func parseModel(d *dispenser, h *Handler) error {
	m := new(Model)
	if !d.Args(&m.Name) || m.Name == "" {
		return d.Err("model: missing name; use model gpt-4o openai/gpt-4o" + d.hintIfFewer(1))
	}
	m.To = d.RemainingArgs()
	matchers := namedMatchers{}
	if err := parseBlock(d, "model", modelSubdirectives, m, matchers); err != nil {
		return err
	}
	for _, r := range m.Routes {
		if set, ok := matchers[r.Name]; ok {
			r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
		}
	}
	if len(m.To) == 0 && len(m.Routes) == 0 {
		return fmt.Errorf("model %s: missing target; add `to upstream/model`%s", m.Name, d.lines.of(d.place))
	}
	h.Models = append(h.Models, m)
	return nil
}

var modelSubdirectives = subdirectives[*Model]{
	"to":        func(d *dispenser, m *Model) error { return parseStrings(d, &m.To) },
	"weight":    parseWeights,
	"lb_policy": parsePolicy,
	"fallback": func(d *dispenser, m *Model) error {
		var pool []string
		err := parseStrings(d, &pool)
		m.Fallbacks = append(m.Fallbacks, pool)
		return err
	},
	"spill":        func(d *dispenser, m *Model) error { return parseDuration(d, &m.Spill) },
	"spill_budget": func(d *dispenser, m *Model) error { return parseBudgets(d, &m.SpillBudget) },
	"limit":        parseModelLimit,
	"route":        parseRoute,
	"local_only": func(d *dispenser, m *Model) error {
		if d.NextArg() {
			return d.Err("local_only of a model takes no matcher; write it outside of the model")
		}
		m.LocalOnly = true
		return nil
	},
}

func parseModelLimit(d *dispenser, m *Model) error {
	if m.Limit != nil {
		return d.Err("limit: duplicate block; write all limits in one")
	}
	if d.NextArg() {
		return d.wrongCount("no value")
	}
	m.Limit = new(keys.Limits)
	return parseLimits(d, m.Limit)
}

func parsePolicy(d *dispenser, m *Model) error {
	if err := parseString(d, &m.LBPolicy); err != nil {
		return err
	}
	if _, err := router.ParsePolicy(m.LBPolicy); err != nil {
		if near := nearest(m.LBPolicy, router.PolicyNames()); near != "" {
			return d.Errf("unknown lb_policy %q; did you mean %s?", m.LBPolicy, near)
		}
		return d.WrapErr(err)
	}
	return nil
}

func parseWeights(d *dispenser, m *Model) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.wrongCount("at least one value")
	}
	for _, arg := range args {
		n, err := parseCount(d, "weight", arg, 0)
		if err != nil {
			return err
		}
		m.Weights = append(m.Weights, n)
	}
	return nil
}

// parseRoute parses a route. Its matcher may be defined later.
func parseRoute(d *dispenser, m *Model) error {
	r := &Route{To: d.RemainingArgs()}
	if len(r.To) > 0 && strings.HasPrefix(r.To[0], "@") {
		r.Name, r.To = r.To[0][1:], r.To[1:]
	}
	if len(r.To) == 0 {
		return d.Err("route: missing target; use route @hard openai/gpt-4o")
	}
	if err := parseBlock(d, "route", routeSubdirectives, r, nil); err != nil {
		return err
	}
	m.Routes = append(m.Routes, r)
	return nil
}

var routeSubdirectives = subdirectives[*Route]{
	"shadow": func(d *dispenser, r *Route) error { return parseFlag(d, &r.Shadow) },
}

// parseLocalOnly parses which requests must stay local: all, or those that match one of the matchers, which may be defined
// later.
func parseLocalOnly(d *dispenser, h *Handler) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		h.LocalOnly = true
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "@") {
			return d.Errf("local_only: %q is not a matcher; define one and use its name, such as @private", name)
		}
		h.LocalOnlyMatchRaw = append(h.LocalOnlyMatchRaw, caddy.ModuleMap{name: nil}) // resolve replaces it
	}
	return nil
}

// namedMatchers are the matchers that a block defines, by name without "@".
type namedMatchers map[string]caddy.ModuleMap

// parse parses the definition of a matcher, on the line or in a block; its name is the current token.
func (n namedMatchers) parse(d *dispenser) error {
	name := strings.TrimPrefix(d.Val(), "@")
	if name == "" {
		return d.Err("missing name of a matcher; use one such as @hard")
	}
	if _, ok := n[name]; ok {
		return d.Errf("duplicate matcher @%s", name)
	}
	set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(d.Dispenser)
	if err != nil {
		return err
	}
	if len(set) == 0 {
		return d.Errf("matcher @%s is empty; add a condition", name)
	}
	if err := checkMatchers(set); err != nil {
		return fmt.Errorf("matcher @%s: %w%s", name, err, d.lines.of(d.place))
	}
	n[name] = set
	d.matchers = append(d.matchers, name)
	return nil
}

// resolve replaces the names of matchers in routes and local_only with the matchers. All has also those that models define.
func (n namedMatchers) resolve(h *Handler, all []string) error {
	for i, m := range h.Models {
		for k, r := range m.Routes {
			if r.Name == "" || r.MatcherSetsRaw != nil {
				continue
			}
			set, ok := n[r.Name]
			if !ok {
				return modelPlace(i).in("route", k).errorf("model %s: unknown matcher @%s; %s", m.Name, r.Name, adviceOnMatcher(r.Name, all, "define it in the model or in llm_proxy"))
			}
			r.MatcherSetsRaw = caddyhttp.RawMatcherSets{set}
		}
	}
	for i, unresolved := range h.LocalOnlyMatchRaw {
		for name := range unresolved {
			set, ok := n[strings.TrimPrefix(name, "@")]
			if !ok {
				return place("").in("local_only", 0).errorf("local_only: unknown matcher %s; %s", name, adviceOnMatcher(name[1:], slices.Sorted(maps.Keys(n)), "define it in llm_proxy"))
			}
			h.LocalOnlyMatchRaw[i] = set
		}
	}
	return nil
}

// adviceOnMatcher returns the matcher that may have been meant by an unknown one, or else what to do.
func adviceOnMatcher(name string, known []string, otherwise string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean @%s?", near)
	}
	return otherwise
}

// provisionedAlone has the matchers that can be provisioned when a Caddyfile is adapted, because they need nothing else: those in which
// expressions may be invalid.
var provisionedAlone = []string{"expression", "header_regexp", "llm", "path_regexp", "vars_regexp"}

// checkMatchers reports invalid expressions in a set of matchers.
func checkMatchers(set caddy.ModuleMap) error {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	for _, name := range provisionedAlone {
		raw, ok := set[name]
		if !ok {
			continue
		}
		if _, err := ctx.LoadModuleByID("http.matchers."+name, raw); err != nil {
			_, reason, _ := strings.Cut(err.Error(), "provision http.matchers."+name+": ")
			reason, _, _ = strings.Cut(cmp.Or(reason, err.Error()), "\n") // CEL draws a picture below
			return errors.New(name + ": " + reason)
		}
	}
	return nil
}
