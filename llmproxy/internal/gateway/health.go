package gateway

import (
	"errors"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// took notes what the end of an attempt says of the replica. What we ended ourselves, says nothing of it.
func (a *attempt) took(o router.Outcome) {
	if a.quiet || errors.Is(a.life.cause(), errDraining) || errors.Is(a.life.cause(), errOverdue) {
		return
	}
	replica := a.candidate.Replica
	if change, told := replica.Note(a.model, o, a.u.Probes()); told {
		a.c.g.tell(a.u, Change{Change: change, Address: replica.Address})
	}
	if o.Verdict != router.OK {
		a.c.g.watch(a.u, replica)
	}
	if errors.Is(a.life.cause(), errSilent) {
		a.suspect()
	}
}

// A Change is what a replica has become.
type Change struct {
	router.Change
	Upstream string
	Address  string
}

func (g *Gateway) tell(u *upstream.Upstream, change Change) {
	if g.Changed != nil {
		change.Upstream = u.Name
		g.Changed(change)
	}
}

// watch probes a replica that is not ready until it is, unless somebody does so already.
func (g *Gateway) watch(u *upstream.Upstream, r *router.Replica) {
	if g.closed.Err() != nil || !r.Watch() {
		return
	}
	go func() {
		defer r.Unwatch()
		for {
			timer := time.NewTimer(r.ProbeIn())
			select {
			case <-timer.C:
			case <-g.closed.Done():
				timer.Stop()
				return
			}
			found := u.Probe(g.closed, r)
			if g.closed.Err() != nil {
				return
			}
			change, told := r.Probed(found)
			if told {
				g.tell(u, Change{Change: change, Address: r.Address})
			}
			if !r.Facts().State.IsProbed() {
				return
			}
		}
	}()
}

// WatchAll probes the replicas that are not ready: those that an earlier configuration left so.
func (g *Gateway) WatchAll() {
	for _, u := range g.Config.Upstreams {
		for _, r := range u.Route.Replicas {
			g.watch(u, r)
		}
	}
}

// Close ends the probes. Requests go on.
func (g *Gateway) Close() { g.close() }
