package router

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// A Model is a name that clients use, as configured: pools of targets, each written as "upstream/model", as "upstream" (the name is
// kept), or, as the only one in its pool, as the name of another model, whose pools then replace it. In a pattern, "upstream/prefix-*"
// gets what the * of the pattern matches.
type Model struct {
	Name string
	// Routes are tried before the pools.
	Routes    []RouteConfig
	Pools     []PoolConfig
	LocalOnly bool
	// Spill decides whether requests are better sent on from one of the pools to the next; nil if they wait.
	Spill *admission.Spill

	pattern string // the name of the model, if this one stands for a name that it matches
}

// A RouteConfig is one rule of a Model, as configured: one pool, or the name of another model.
type RouteConfig struct {
	// Name is the name of the matcher, "@hard"; empty for a route that always matches.
	Name string
	// Matcher decides which requests take the route; nil for a route that always matches.
	Matcher Matcher
	Targets []string
	Shadow  bool
	// Sessionless is that of the Route.
	Sessionless bool
}

// A PoolConfig is one pool of a Model, as configured.
type PoolConfig struct {
	Targets []string
	Weights []int
	Policy  Policy
}

// A ConfigError is a mistake in one upstream, one model, or one part of a model. Indexes that do not apply are -1.
type ConfigError struct {
	Err             error
	Upstream, Model int
	Route, Pool     int // of the model
}

// Error implements error.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake without its place.
func (e *ConfigError) Unwrap() error { return e.Err }

// Compile checks the models against the upstreams and returns the table. It reports every mistake, not only the first, as a
// ConfigError.
func Compile(upstreams []*Upstream, models []Model) (*Table, error) {
	c := compiler{upstreams: map[string]*Upstream{}, models: map[string]*Model{}, indexes: map[string]int{}}
	for i, u := range upstreams {
		if c.upstreams[u.Name] != nil {
			c.report(&ConfigError{fmt.Errorf("duplicate upstream %q; write all its addresses in one line", u.Name), i, -1, -1, -1})
		}
		c.upstreams[u.Name] = u
	}
	for i := range models {
		if c.models[models[i].Name] != nil {
			c.report(&ConfigError{fmt.Errorf("duplicate model %q: give all its targets in one block", models[i].Name), -1, i, -1, -1})
		}
		c.models[models[i].Name], c.indexes[models[i].Name] = &models[i], i
		if IsPattern(models[i].Name) {
			c.patterns = append(c.patterns, &models[i])
		}
	}
	t := &Table{exact: map[string]*Plan{}}
	for i := range models {
		c.current = i
		c.add(t, &models[i])
	}
	return t, errors.Join(c.errs...)
}

type compiler struct {
	upstreams map[string]*Upstream
	models    map[string]*Model
	indexes   map[string]int // of models, by name
	current   int            // the model that is being compiled
	patterns  []*Model
	errs      []error
}

// A part is a part of a model: one of its routes or pools.
type part struct{ route, pool int }

var wholeModel = part{-1, -1}

// fail reports a mistake in a part of a model. Models that others refer to are compiled again for each of these.
func (c *compiler) fail(m *Model, in part, format string, args ...any) {
	i, ok := c.indexes[m.Name]
	if !ok { // it stands for a pattern
		i = c.current
	}
	c.report(&ConfigError{fmt.Errorf(format, args...), -1, i, in.route, in.pool})
}

func (c *compiler) report(mistake *ConfigError) {
	if !slices.ContainsFunc(c.errs, func(other error) bool { return other.Error() == mistake.Error() }) {
		c.errs = append(c.errs, mistake)
	}
}

func (c *compiler) add(t *Table, m *Model) {
	plan := c.plan(m, nil)
	if !IsPattern(m.Name) {
		t.exact[m.Name] = plan
		t.names = append(t.names, m.Name)
		return
	}
	for _, earlier := range t.patterns {
		// An earlier pattern that matches this one as if it were a name matches everything that this one does.
		if Match(earlier.pattern, m.Name) {
			c.fail(m, wholeModel, "model %q is never reached: %q comes before it and matches the same names; write the narrower pattern first", m.Name, earlier.pattern)
		}
	}
	t.patterns = append(t.patterns, patternPlan{m.Name, plan})
}

// plan resolves a model with its routes. Via are the models that refer to it, from the outermost on.
func (c *compiler) plan(m *Model, via []string) *Plan {
	plan := &Plan{Rule: m.Name, LocalOnly: m.LocalOnly}
	if c.circular(m, via) {
		return plan
	}
	if len(m.Routes) == 0 {
		plan.Pools = c.pools(m, via)
		return plan
	}
	plan.Routes = c.routes(m, via)
	if len(m.Pools) > 0 {
		rest := &Plan{Rule: m.Name, LocalOnly: m.LocalOnly, Pools: c.pools(m, via)}
		plan.Routes = append(plan.Routes, Route{Rule: m.Name, Plan: rest})
	}
	return plan
}

// circular reports whether a model refers to itself, which is a mistake.
func (c *compiler) circular(m *Model, via []string) bool {
	i := slices.Index(via, m.Name)
	if i < 0 {
		return false
	}
	c.fail(m, wholeModel, "model %q leads back to itself: %s", m.Name, strings.Join(append(via[i:len(via):len(via)], m.Name), " → "))
	return true
}

// routes resolves the routes of a model.
func (c *compiler) routes(m *Model, via []string) []Route {
	var routes []Route
	complete := len(m.Pools) > 0
	for i, config := range m.Routes {
		route := Route{Rule: m.Name, Matcher: config.Matcher, Shadow: config.Shadow, Sessionless: config.Sessionless}
		always := config.Matcher == nil
		if !always {
			route.Rule += "/" + config.Name
		}
		switch {
		case len(config.Targets) == 0:
			c.fail(m, part{i, -1}, "model %q: route %s has no target: write `route %[2]s upstream/model`", m.Name, config.Name)
			continue
		case always && route.Shadow:
			c.fail(m, part{i, -1}, "model %q: a route that always matches cannot be a shadow", m.Name)
		case always && i < len(m.Routes)-1:
			c.fail(m, part{i, -1}, "model %q: the routes after `route %s` are never reached: a route without a matcher must be the last one", m.Name, config.Targets[0])
		case always && len(m.Pools) > 0:
			c.fail(m, part{i, -1}, "model %q: `to` is never reached after `route %s`: remove one of them", m.Name, config.Targets[0])
		case !always && slices.ContainsFunc(routes, func(earlier Route) bool { return earlier.Rule == route.Rule }):
			c.fail(m, part{i, -1}, "model %q: duplicate route %s", m.Name, config.Name)
		}
		route.Plan = c.routed(m, i, via)
		routes = append(routes, route)
		complete = complete || always
	}
	if len(m.Routes) > 0 && !complete {
		c.fail(m, wholeModel, "model %q has no target for a request that no route matches: add `route upstream/model` as the last one", m.Name)
	}
	return routes
}

// routed returns the plan that a route leads to.
func (c *compiler) routed(m *Model, i int, via []string) *Plan {
	config, in := m.Routes[i], part{i, -1}
	if other := c.reference(m, in, config.Targets); other != nil {
		return c.plan(other, append(via[:len(via):len(via)], m.Name))
	}
	plan := &Plan{Rule: m.Name, LocalOnly: m.LocalOnly}
	if pool := c.pool(m, in, PoolConfig{Targets: config.Targets, Policy: LeastBusy}, len(via) > 0); pool != nil {
		plan.Pools = []*Pool{pool}
	}
	return plan
}

// pools resolves the pools of a model.
func (c *compiler) pools(m *Model, via []string) []*Pool {
	if c.circular(m, via) {
		return nil
	}
	if len(m.Pools) == 0 || len(m.Pools[0].Targets) == 0 {
		c.fail(m, wholeModel, "model %q has no target: write `to upstream/model`", m.Name)
		return nil
	}
	var pools []*Pool
	for i, config := range m.Pools {
		in := part{-1, i}
		if other := c.reference(m, in, config.Targets); other != nil {
			if len(other.Routes) > 0 {
				c.fail(m, in, "model %q: the target %q is a model with routes; only a route may lead there", m.Name, other.Name)
				continue
			}
			pools = append(pools, c.pools(other, append(via[:len(via):len(via)], m.Name))...)
			continue
		}
		if pool := c.pool(m, in, config, len(via) > 0); pool != nil {
			pools = append(pools, pool)
		}
	}
	return pools
}

// reference returns the model that a pool refers to by its only target, or nil.
func (c *compiler) reference(m *Model, in part, targets []string) *Model {
	if len(targets) != 1 {
		return nil
	}
	name := targets[0]
	other := c.models[name]
	before, at, _ := strings.Cut(name, "/")
	switch {
	case c.upstreams[before] != nil && (IsPattern(at) || at != "" && name == m.Name): // a target, whatever the models are called
		return nil
	case other == nil && c.upstreams[name] == nil && !strings.Contains(name, "/"):
		return c.byPattern(name)
	case other == nil, name == m.Name && c.upstreams[name] != nil:
		return nil
	case c.upstreams[name] != nil:
		c.fail(m, in, "model %q: %q is both a model and an upstream: write %q, or rename one", m.Name, name, name+"/…")
		return nil
	}
	return other
}

// byPattern returns the model of the first pattern that matches a name, as if it were configured under that name, or nil.
func (c *compiler) byPattern(name string) *Model {
	for _, m := range c.patterns {
		if Match(m.Name, name) {
			named := *m
			named.Name, named.pattern = name, m.Name
			return &named
		}
	}
	return nil
}

// pool returns one pool of a model. If another model refers to this one, the client asked for the other model's name, which the
// targets of this one do not know: those that keep the name get this model's.
func (c *compiler) pool(m *Model, in part, config PoolConfig, referred bool) *Pool {
	var targets []Target
	for _, written := range config.Targets {
		target, err := c.target(written)
		if err != nil {
			c.fail(m, in, "model %q: %w", m.Name, err)
			continue
		}
		if IsPattern(target.Model) {
			if target, err = c.refilled(m, target, written, referred); err != nil {
				c.fail(m, in, "model %q: %w", m.Name, err)
				continue
			}
		}
		if referred && target.Model == "" && !IsPattern(m.Name) {
			target.Model = m.Name
		}
		targets = append(targets, target)
	}
	if len(targets) != len(config.Targets) {
		return nil
	}
	pool, err := NewPool(config.Policy, targets, config.Weights)
	if err != nil {
		c.fail(m, in, "model %q: %w", m.Name, err)
		return nil
	}
	pool.localOnly, pool.spill = m.LocalOnly, m.Spill
	return pool
}

// refilled returns a target with a * with the pattern whose * it stands for. If another model refers to a name that the pattern matches, the
// target has the model of that name.
func (c *compiler) refilled(m *Model, target Target, written string, referred bool) (Target, error) {
	target.Pattern = cmp.Or(m.pattern, m.Name)
	switch {
	case !IsPattern(target.Pattern):
		return target, fmt.Errorf("target %q: its * stands for what the * in the model's name matches, and this model is no pattern; write the name of one model", written)
	case strings.Count(target.Pattern, "*") > 1 || strings.Count(target.Model, "*") > 1:
		return target, fmt.Errorf("target %q: its * stands for what the * in the model's name matches; write only one * in both", written)
	case referred && m.pattern == "":
		return target, fmt.Errorf("target %q: another model refers to this pattern, so that its * stands for nothing; let it refer to a name that the pattern matches", written)
	case m.pattern != "":
		target = Target{Upstream: target.Upstream, Model: target.ModelFor(m.Name)}
	}
	return target, nil
}

func (c *compiler) target(written string) (Target, error) {
	name, at, named := strings.Cut(written, "/")
	u := c.upstreams[name]
	switch {
	case strings.HasSuffix(written, ","):
		return Target{}, fmt.Errorf("target %q ends with a comma; separate targets with spaces only", written)
	case u != nil && named && at == "":
		return Target{}, fmt.Errorf("target %q: missing model name after the slash", written)
	case u != nil:
		return Target{Upstream: u, Model: at}, nil
	case c.models[written] != nil:
		return Target{}, fmt.Errorf("target %q is a model: it must be the only target of its pool", written)
	}
	return Target{}, fmt.Errorf("target %q: unknown upstream %q; %s", written, name, c.advice(written))
}

// advice returns what may have been meant by a target without a known upstream.
func (c *compiler) advice(written string) string {
	if len(c.upstreams) == 0 {
		return "no upstream is configured"
	}
	names := slices.Sorted(maps.Keys(c.upstreams))
	if name, model, ok := strings.Cut(written, ":"); ok && c.upstreams[name] != nil {
		return fmt.Sprintf("write %s/%s, with a slash", name, model)
	}
	advice := "the upstreams are " + strings.Join(names, ", ")
	if !strings.Contains(written, "/") {
		advice += fmt.Sprintf("; write upstream/model, such as %s/%s", names[0], written)
	}
	return advice
}
