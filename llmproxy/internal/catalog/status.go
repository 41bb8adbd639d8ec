package catalog

import (
	"context"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Status is what can be served now.
type Status struct {
	Models    []ModelStatus
	Upstreams []UpstreamStatus
}

// A ModelStatus says whether a request for a model can be served now.
type ModelStatus struct {
	Name   string
	Served bool
}

// An UpstreamStatus is the status of an upstream and its replicas.
type UpstreamStatus struct {
	Name, Kind string
	Replicas   []replica.Status
}

// Served reports whether a request for at least one model can be served now.
func (s Status) Served() bool {
	return slices.ContainsFunc(s.Models, func(m ModelStatus) bool { return m.Served })
}

// Status returns what can be served now, judging by the latest probes and requests.
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
		for _, d := range c.discoveries(ctx) {
			for _, m := range d.Models {
				if plan, ok := c.discoveredPlan(ctx, m.ID); ok {
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
