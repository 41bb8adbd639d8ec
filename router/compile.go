package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Model is a name that clients use, as configured: pools of targets, each target written "upstream/model", "upstream"
// (the name is kept), or, alone in its pool, the name of another model, whose pools then stand in its place.
type Model struct {
	Name  string
	Pools []PoolConfig
}

// A PoolConfig is one pool of a Model, as configured.
type PoolConfig struct {
	Targets []string
	Weights []int
	Policy  Policy
}

// Compile checks the models against the upstreams and makes the table. Every mistake is reported, not the first only.
func Compile(upstreams []*Upstream, models []Model) (*Table, error) {
	c := compiler{upstreams: map[string]*Upstream{}, models: map[string]*Model{}}
	for _, u := range upstreams {
		if c.upstreams[u.Name] != nil {
			c.fail("upstream %q is configured twice", u.Name)
		}
		c.upstreams[u.Name] = u
	}
	for i := range models {
		if c.models[models[i].Name] != nil {
			c.fail("model %q is configured twice: give its targets in one block", models[i].Name)
		}
		c.models[models[i].Name] = &models[i]
	}
	t := &Table{exact: map[string]*Plan{}}
	for i := range models {
		c.add(t, &models[i])
	}
	return t, errors.Join(c.errs...)
}

type compiler struct {
	upstreams map[string]*Upstream
	models    map[string]*Model
	errs      []error
}

func (c *compiler) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *compiler) add(t *Table, m *Model) {
	plan := &Plan{Rule: m.Name, Pools: c.pools(m, nil)}
	if !IsPattern(m.Name) {
		t.exact[m.Name] = plan
		t.names = append(t.names, m.Name)
		return
	}
	for _, earlier := range t.patterns {
		// An earlier pattern that matches this one as if it were a name matches all that this one does.
		if Match(earlier.pattern, m.Name) {
			c.fail("model %q is never reached: %q stands before it and matches the same names; write the narrower pattern first", m.Name, earlier.pattern)
		}
	}
	t.patterns = append(t.patterns, patternPlan{m.Name, plan})
}

// pools resolves the pools of m; via are the models that led to it.
func (c *compiler) pools(m *Model, via []string) []*Pool {
	for i, name := range via {
		if name == m.Name {
			c.fail("model %q leads back to itself: %s", m.Name, strings.Join(append(via[i:len(via):len(via)], m.Name), " → "))
			return nil
		}
	}
	if len(m.Pools) == 0 || len(m.Pools[0].Targets) == 0 {
		c.fail("model %q has no target: say `to upstream/model`", m.Name)
		return nil
	}
	var pools []*Pool
	for _, config := range m.Pools {
		if other := c.reference(m, config.Targets); other != nil {
			pools = append(pools, c.pools(other, append(via[:len(via):len(via)], m.Name))...)
			continue
		}
		if pool := c.pool(m, config); pool != nil {
			pools = append(pools, pool)
		}
	}
	return pools
}

// reference finds the model that a pool of one bare name stands for.
func (c *compiler) reference(m *Model, targets []string) *Model {
	if len(targets) != 1 || c.models[targets[0]] == nil || targets[0] == m.Name && c.upstreams[targets[0]] != nil {
		return nil
	}
	if c.upstreams[targets[0]] != nil {
		c.fail("model %q: %q names both a model and an upstream: say %q, or rename one", m.Name, targets[0], targets[0]+"/…")
		return nil
	}
	return c.models[targets[0]]
}

func (c *compiler) pool(m *Model, config PoolConfig) *Pool {
	var targets []Target
	for _, written := range config.Targets {
		target, err := c.target(m.Name, written)
		if err != nil {
			c.fail("model %q: %w", m.Name, err)
			continue
		}
		targets = append(targets, target)
	}
	if len(targets) != len(config.Targets) {
		return nil
	}
	pool, err := NewPool(config.Policy, targets, config.Weights)
	if err != nil {
		c.fail("model %q: %w", m.Name, err)
	}
	return pool
}

func (c *compiler) target(model, written string) (Target, error) {
	name, at, named := strings.Cut(written, "/")
	u := c.upstreams[name]
	switch {
	case u != nil && named && at == "":
		return Target{}, fmt.Errorf("target %q: the model's name is missing after the slash", written)
	case u != nil:
		return Target{Upstream: u, Model: at}, nil
	case c.models[written] != nil:
		return Target{}, fmt.Errorf("target %q is a model: it must stand alone in its line", written)
	}
	return Target{}, fmt.Errorf("target %q: no upstream is named %q%s", written, name, c.known())
}

func (c *compiler) known() string {
	if len(c.upstreams) == 0 {
		return "; none is configured"
	}
	var names []string
	for name := range c.upstreams {
		names = append(names, name)
	}
	slices.Sort(names)
	return "; there are " + strings.Join(names, ", ")
}
