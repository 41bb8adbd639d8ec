// Package replica holds what is known of one address of an upstream, and decides who may send a request there: the circuit breaker,
// health and the detection of stuck servers, above the admission queue. A Replica is shared by all configurations that name its address,
// also across reloads, so it holds facts only; the rules are in each configuration's Group.
//
// It never sends anything and starts neither goroutines nor timers: its callers make the attempts and the probes and report how they
// ended. It stands above router/admission, which has its slots, and above package router, whose verdicts are reported to it, and which
// sees a replica through the interface router.Replica.
package replica

import (
	"sync/atomic"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// A Replica is one address of an upstream. It is safe for concurrent use. The zero value with an Address is ready for use.
type Replica struct {
	Address string
	queue   admission.Queue
	health  health
	silence silence
	// prefixes are the beginnings of prompts that it has probably in its cache.
	prefixes prefix.Index
	watched  atomic.Bool // somebody asks the server about its load
}

var _ router.Replica = (*Replica)(nil)

// Queue returns the replica's admission queue.
func (r *Replica) Queue() *admission.Queue { return &r.queue }

// InFlight returns the number of requests that hold a slot.
func (r *Replica) InFlight() int { return r.queue.InFlight() }

// Cached implements router.Replica.
func (r *Replica) Cached(model string, head *prefix.Head) (blocks int, session bool) {
	return r.prefixes.Match(model, head)
}

// WillCache implements router.Replica.
func (r *Replica) WillCache(model string, head *prefix.Head) { r.prefixes.Add(model, head) }

// Load implements router.Replica.
func (r *Replica) Load() int { return r.queue.InFlight() + r.queue.Foreign() }

// StartLoadWatch claims the task of asking the server about its load while there are requests. It reports false if another caller has
// the task. StopLoadWatch releases it.
func (r *Replica) StartLoadWatch() bool {
	return !r.watched.Load() && r.watched.CompareAndSwap(false, true)
}

// StopLoadWatch releases the task that StartLoadWatch claimed.
func (r *Replica) StopLoadWatch() { r.watched.Store(false) }

// Waiting returns the number of requests that wait for a slot here, including those that wait for other replicas as well.
func (r *Replica) Waiting() int { return r.queue.Waiting() }

// A Group is the replicas of one upstream under the rules of one configuration.
type Group struct {
	Replicas []*Replica
	admission.Rules
}

// SetInitial sets how many requests may be in flight at a replica until its server has shown how many it can do at once; zero means no
// limit. A higher limit admits waiting requests at once.
func (g *Group) SetInitial(n int) {
	g.Rules.SetInitial(n)
	for _, r := range g.Replicas {
		r.queue.Admit()
	}
}

// Capacity returns how much may be sent to the ith replica at once.
func (g *Group) Capacity(i int) admission.Capacity { return g.Replicas[i].queue.Capacity(&g.Rules) }

// NeedsRequest reports whether it depends on a request whether it gets a slot at the ith replica.
func (g *Group) NeedsRequest(i int) bool { return g.Replicas[i].queue.NeedsRequest(&g.Rules) }

// Place returns the ith replica as a place where a request of a model may wait.
func (g *Group) Place(i int, model string) admission.Place {
	return admission.Place{Rules: &g.Rules, Queue: &g.Replicas[i].queue, Model: model}
}

// Take takes a slot at the ith replica for a request of a model, if one is free and no request waits for it; Slot.Release gives it
// back. While a single request tries whether the replica has recovered, other requests get no slot, unless force is set because no
// other replica is left for them.
func (g *Group) Take(i int, model string, force bool, slot *admission.Slot) bool {
	r := g.Replicas[i]
	if !r.queue.Take(&g.Rules, model, slot) {
		return false
	}
	if force || r.startTrial() {
		return true
	}
	slot.Release(admission.Usage{})
	return false
}
