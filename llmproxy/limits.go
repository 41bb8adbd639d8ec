package llmproxy

import (
	"fmt"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// said is what the configuration says of the upstream's models.
func (u *Upstream) said() (all upstream.Said, models map[string]upstream.Said, err error) {
	if all, err = u.Limits.said(); err != nil {
		return all, nil, err
	}
	for model, limits := range u.ModelLimits {
		one, err := limits.said()
		if err != nil {
			return all, nil, fmt.Errorf("model_limits of %s: %w", model, err)
		}
		if models == nil {
			models = map[string]upstream.Said{}
		}
		models[model] = one
	}
	return all, models, nil
}

func (l *Limits) said() (s upstream.Said, err error) {
	if l.Context < 0 {
		return s, fmt.Errorf("context %d is below zero", l.Context)
	}
	s.Context = l.Context
	if s.Can, err = abilities(l.Can); err != nil {
		return s, fmt.Errorf("can: %w", err)
	}
	if s.Cannot, err = abilities(l.Cannot); err != nil {
		return s, fmt.Errorf("cannot: %w", err)
	}
	if s.Can&s.Cannot != 0 {
		return s, fmt.Errorf("what it can and what it cannot overlap: can %s, cannot %s", strings.Join(l.Can, " "), strings.Join(l.Cannot, " "))
	}
	return s, nil
}

func abilities(names []string) (set router.Ability, err error) {
	for _, name := range names {
		a, ok := router.AbilityNamed(name)
		if !ok {
			return 0, fmt.Errorf("unknown ability %q: use %s", name, strings.Join(router.Abilities[:], ", "))
		}
		set |= a
	}
	return set, nil
}
