package check

import (
	"context"
	"slices"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// maxAsked is how many models of an upstream are asked about, beyond those that are configured.
const maxAsked = 16

// Ask asks all replicas about themselves and about the models that they should have, all at once.
func (c *Config) Ask(ctx context.Context) {
	var all sync.WaitGroup
	for _, server := range c.Servers {
		for _, site := range server.Sites {
			for _, u := range site.Upstreams {
				all.Go(func() { site.ask(ctx, u) })
			}
		}
	}
	all.Wait()
}

func (s *Site) ask(ctx context.Context, u *Upstream) {
	models := s.modelsOf(u)
	if u.Kind.BuiltIn() {
		return
	}
	if u.Kind == upstream.Auto || u.Optional || s.Discover {
		found := u.Discover(ctx)
		if u.Optional && !found.Present {
			u.Absent = true
			return
		}
		for i, m := range found.Models {
			if i < maxAsked && !slices.Contains(models, m.ID) && u.ActualKind().ContextSetting != "" {
				models = append(models, m.ID)
			}
		}
	}
	u.Replicas = make([]*upstream.Inspection, len(u.Bases))
	var all sync.WaitGroup
	for i := range u.Bases {
		all.Go(func() { u.Replicas[i] = u.Inspect(ctx, i, models) })
	}
	all.Wait()
}

// modelsOf returns the models that an upstream should have.
func (s *Site) modelsOf(u *Upstream) (models []string) {
	for _, t := range s.allTargets() {
		if t.at == u {
			models = append(models, t.model)
		}
	}
	for _, m := range u.Warm {
		if !slices.Contains(models, m) {
			models = append(models, m)
		}
	}
	return models
}
