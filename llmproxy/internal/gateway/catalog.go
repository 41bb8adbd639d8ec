package gateway

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A catalog knows which upstream really has which model.
type catalog struct {
	upstreams []*upstream.Upstream
	index     atomic.Pointer[index]
}

// An index is the plans for the models of a set of views; it is made anew when one of them changed.
type index struct {
	views []*upstream.View
	plans map[string]*router.Plan
}

// RuleDiscover is the rule of models that the configuration does not name, but an upstream.
const RuleDiscover = "discover"

// find gives the plan for a model that upstreams have: all that have it are one pool.
func (c *catalog) find(ctx context.Context, name string) (*router.Plan, bool) {
	plan, ok := c.current(ctx).plans[name]
	return plan, ok
}

// refresh asks all upstreams again: a model may have been added since.
func (c *catalog) refresh(ctx context.Context) {
	c.each(func(u *upstream.Upstream) { u.Refresh(ctx) })
}

// each runs ask for every upstream at the same time: one that hangs must not add its wait to the others'.
func (c *catalog) each(ask func(*upstream.Upstream)) {
	var all sync.WaitGroup
	for _, u := range c.upstreams {
		all.Go(func() { ask(u) })
	}
	all.Wait()
}

// views gives what is known of each upstream, in their order. It waits only for those that were never looked at.
func (c *catalog) views(ctx context.Context) []*upstream.View {
	for _, u := range c.upstreams {
		if !u.Seen() {
			c.each(func(u *upstream.Upstream) { u.View(ctx) })
			break
		}
	}
	views := make([]*upstream.View, len(c.upstreams))
	for i, u := range c.upstreams {
		views[i] = u.View(ctx)
	}
	return views
}

func (c *catalog) current(ctx context.Context) *index {
	views := c.views(ctx)
	if old := c.index.Load(); old != nil && same(old.views, views) {
		return old
	}
	in := &index{views: views, plans: map[string]*router.Plan{}}
	targets := map[string][]router.Target{}
	for i, u := range c.upstreams {
		if !views[i].Present {
			continue
		}
		for _, m := range views[i].Models {
			target := router.Target{Upstream: u.Route, Model: m.ID}
			targets[m.ID] = append(targets[m.ID], target)
			// Ollama takes a name without a tag for the one tagged latest, so clients write it so.
			if short, ok := strings.CutSuffix(m.ID, ":latest"); ok {
				targets[short] = append(targets[short], target)
			}
		}
	}
	for name, list := range targets {
		// More replicas than a pool takes: the model is left to those who configure it.
		if pool, err := router.NewPool(router.LeastBusy, list, nil); err == nil {
			in.plans[name] = &router.Plan{Rule: RuleDiscover, Pools: []*router.Pool{pool}}
		}
	}
	c.index.Store(in)
	return in
}

func same(a, b []*upstream.View) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
