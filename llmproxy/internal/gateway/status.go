package gateway

import (
	"context"
	"sync"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Status is what can be served now.
type Status struct {
	Models    []ModelStatus
	Upstreams []UpstreamStatus
}

// A ModelStatus tells whether a request for a model could be served now.
type ModelStatus struct {
	Name   string
	Served bool
}

// An UpstreamStatus is an upstream and its replicas.
type UpstreamStatus struct {
	Name, Kind string
	Replicas   []router.Facts
}

// Served tells whether a request for at least one model can be served now.
func (s Status) Served() bool {
	for _, m := range s.Models {
		if m.Served {
			return true
		}
	}
	return false
}

// Status finds out what can be served now: local servers are asked, services are judged by traffic.
func (g *Gateway) Status(ctx context.Context) Status {
	g.probeAll(ctx)
	var s Status
	seen := map[string]bool{}
	add := func(name string, plan *router.Plan) {
		if !seen[name] {
			seen[name] = true
			s.Models = append(s.Models, ModelStatus{Name: name, Served: plan.Ready(name)})
		}
	}
	g.Models.Each(add)
	if g.Discover {
		g.catalog.each(func(u *upstream.Upstream) { u.View(ctx) })
		for _, u := range g.Config.Upstreams {
			for _, m := range u.View(ctx).Models {
				if plan, ok := g.catalog.find(ctx, m.ID); ok {
					add(m.ID, plan)
				}
			}
		}
	}
	for _, u := range g.Config.Upstreams {
		if u.Optional && !u.View(ctx).Present {
			continue
		}
		one := UpstreamStatus{Name: u.Name, Kind: u.Speaks().Name}
		for _, r := range u.Route.Replicas {
			one.Replicas = append(one.Replicas, r.Facts())
		}
		s.Upstreams = append(s.Upstreams, one)
	}
	return s
}

// probeAll asks every replica that can be asked how it fares, at the same time.
func (g *Gateway) probeAll(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range g.Config.Upstreams {
		if !u.Probes() || u.Optional {
			continue
		}
		for _, r := range u.Route.Replicas {
			all.Go(func() { g.probe(ctx, u, r) })
		}
	}
	all.Wait()
}

func (g *Gateway) probe(ctx context.Context, u *upstream.Upstream, r *router.Replica) {
	if state := r.Facts().State; state == router.Open || !r.ProbeDue() {
		return // a probe does not close a circuit before its time
	}
	found := u.Probe(ctx, r)
	if ctx.Err() != nil {
		return
	}
	if change, told := r.Probed(found); told {
		g.tell(u, Change{Change: change, Address: r.Address})
	}
	g.watch(u, r)
}
