// Package router decides where a request may go. It turns the name of a model into a plan: the routes by content and the
// ordered pools of targets that may answer. A walk of the plan yields one target after the other, by the policy of each pool, by
// what fits the request, and by the verdicts of the attempts so far.
//
// Its decisions are functions of values: the configuration, which is compiled once, what is known of the request, and how the
// replicas are doing, which it asks through a small interface. It takes no slot, sends nothing, starts neither goroutines nor
// timers, and knows neither JSON nor HTTP. It stands above router/admission, whose rules for
// spilling it carries from the configuration to the walk; router/replica, which owns the shared state of replicas, stands above it.
package router

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// An Upstream is a server or service that generates, as far as routing needs to know it.
type Upstream struct {
	Name     string
	Replicas []Replica
	// Local reports whether the upstream runs on the operator's machines, as far as is known now. Without Local, it does not.
	Local func() bool
}

// A Replica is one address of an upstream, as far as routing needs to know it: how it is doing at the moment.
type Replica interface {
	// Ready reports whether requests for a model may be sent to the replica now.
	Ready(model string) bool
	// Reason returns why they may not.
	Reason(model string) Verdict
	// Cached returns how much of the beginning of a prompt the replica has probably in the cache of a model, in blocks, and whether it has
	// had requests of the same session.
	Cached(model string, head *prefix.Head) (blocks int, session bool)
	// WillCache records that the replica reads a prompt for a model.
	WillCache(model string, head *prefix.Head)
	// Load returns the number of requests that are at the replica now, including those of other clients as far as they are known.
	Load() int
}

// A Target is an upstream and the model's name there.
type Target struct {
	Upstream *Upstream
	Model    string // if empty, the name that the client asked for
	// Pattern is the name of the model if the * in Model stands for what the * in the pattern matches. Otherwise, it is empty.
	Pattern string
}

// ModelFor returns the name to send to the upstream for a client that asked for the given one.
func (t Target) ModelFor(requested string) string {
	switch {
	case t.Model == "":
		return requested
	case t.Pattern == "":
		return t.Model
	}
	return refill(t.Pattern, requested, t.Model)
}

// RequestedAs returns the name by which clients ask for a model of the upstream, if the target leads to it: the inverse of ModelFor.
func (t Target) RequestedAs(model string) (name string, ok bool) {
	switch {
	case t.Model == "":
		return model, true
	case t.Pattern == "" || !Match(t.Model, model):
		return "", false
	}
	return refill(t.Model, model, t.Pattern), true
}

// refill returns the pattern into, with what the * of the pattern from stands for in a name. Both have one *. A name that does not match
// is returned as it is.
func refill(from, name, into string) string {
	if !Match(from, name) {
		return name
	}
	head, tail, _ := strings.Cut(from, "*")
	part := name[len(head) : len(name)-len(tail)]
	if into == "*" {
		return part
	}
	return strings.Replace(into, "*", part, 1)
}

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

// Lookup returns the plan for the name that a client asked for.
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

// Names returns the exact names in the order written.
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

// IsPattern reports whether a model's name is a pattern.
func IsPattern(name string) bool { return strings.Contains(name, "*") }

// Match reports whether a name matches a pattern, in which every * stands for any run of characters, slashes and colons
// included.
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
