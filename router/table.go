package router

import "strings"

// A Table finds the plan for a model's name: exact names first, then patterns in the order written.
type Table struct {
	exact    map[string]*Plan
	patterns []patternPlan
	names    []string
}

type patternPlan struct {
	pattern string
	plan    *Plan
}

// Lookup finds the plan for the name that a client asked for.
func (t *Table) Lookup(name string) (*Plan, bool) {
	if p, ok := t.exact[name]; ok {
		return p, true
	}
	for _, p := range t.patterns {
		if Match(p.pattern, name) {
			return p.plan, true
		}
	}
	return nil, false
}

// Names lists the exact names in the order written: what a list of models shows of the configuration.
func (t *Table) Names() []string { return t.names }

// Each visits every configured name and pattern with its plan, names first.
func (t *Table) Each(visit func(name string, plan *Plan)) {
	for _, name := range t.names {
		visit(name, t.exact[name])
	}
	for _, p := range t.patterns {
		visit(p.pattern, p.plan)
	}
}

// Len is the number of models in the configuration, patterns included.
func (t *Table) Len() int { return len(t.names) + len(t.patterns) }

// IsPattern tells whether a model's name is a pattern.
func IsPattern(name string) bool { return strings.Contains(name, "*") }

// Match tells whether a pattern, in which every * stands for any run of characters (slashes and colons too), matches
// the name.
func Match(pattern, name string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		part, more, again := strings.Cut(rest, "*")
		if !again {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], more
	}
}
