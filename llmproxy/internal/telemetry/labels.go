package telemetry

import (
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/catalog"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Names that no configuration has, but an upstream, are labels as far as there is room: a service may have thousands of models.
const maxDiscovered = 200

var discovered = names{known: map[string]bool{}}

// names is a set of names that is bounded.
type names struct {
	mu    sync.RWMutex
	known map[string]bool
}

// admit gives the name, or other if there is no room for it.
func (n *names) admit(name string) string {
	n.mu.RLock()
	known := n.known[name]
	n.mu.RUnlock()
	if known {
		return name
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known[name] && len(n.known) >= maxDiscovered {
		return other
	}
	n.known[name] = true
	return name
}

// modelLabel is the model's name in the configuration, a pattern as it is written. What a client made up is other; a request
// for no model has none.
func (m *meters) modelLabel(rec *exchange.Record) string {
	switch {
	case isDiscovered(rec):
		return discovered.admit(rec.Model)
	case rec.Rule != "":
		return rec.Rule
	case rec.Model == "":
		return ""
	}
	if plan, ok := m.models.Lookup(rec.Model); ok {
		return plan.Rule
	}
	return other
}

// isDiscovered tells whether an upstream's list of models, not the configuration, led the request.
func isDiscovered(rec *exchange.Record) bool { return rec.Rule == catalog.RuleDiscover }

// targetLabel is a target as the configuration has it, in its two parts; what keeps the names of a pattern's clients has an
// asterisk.
func targetLabel(rec *exchange.Record, t router.Target) (upstream, at string) {
	switch {
	case t.Upstream == nil:
		return "", ""
	case t.Model != "" && (rec.Rule == catalog.RuleDiscover || rec.Rule == catalog.RuleAuto):
		return t.Upstream.Name, discovered.admit(t.Model)
	case t.Model != "":
		return t.Upstream.Name, t.Model
	case router.IsPattern(rec.Rule):
		return t.Upstream.Name, "*"
	}
	return t.Upstream.Name, rec.Model
}
