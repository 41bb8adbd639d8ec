package catalog

import (
	"context"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Status is what can be served now.
type Status struct {
	Models    []ModelStatus
	Upstreams []UpstreamStatus
}

// A ModelStatus is whether a request for a model could be served now.
type ModelStatus struct {
	Name   string
	Served bool
}

// An UpstreamStatus is an upstream and its replicas.
type UpstreamStatus struct {
	Name, Kind string
	Replicas   []replica.Status
}

// Served reports whether a request for at least one model can be served now.
func (s Status) Served() bool {
	for _, m := range s.Models {
		if m.Served {
			return true
		}
	}
	return false
}

// Status reports what can be served now, as the last probes and requests found.
func (c *Catalog) Status(ctx context.Context) Status {
	var s Status
	seen := map[string]bool{}
	add := func(name string, plan *router.Plan) {
		if !seen[name] {
			seen[name] = true
			s.Models = append(s.Models, ModelStatus{Name: name, Served: plan.Ready(name)})
		}
	}
	c.Models.Each(add)
	if c.Discover {
		c.each(func(u *upstream.Upstream) { u.Discover(ctx) })
		for _, u := range c.Upstreams {
			for _, m := range u.Discover(ctx).Models {
				if plan, ok := c.find(ctx, m.ID); ok {
					add(m.ID, plan)
				}
			}
		}
	}
	for _, u := range c.Upstreams {
		if u.Optional && !u.Discover(ctx).Present {
			continue
		}
		one := UpstreamStatus{Name: u.Name, Kind: u.ActualKind().Name}
		for _, r := range u.Replicas {
			one.Replicas = append(one.Replicas, r.Status())
		}
		s.Upstreams = append(s.Upstreams, one)
	}
	return s
}
