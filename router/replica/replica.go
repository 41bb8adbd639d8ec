// Package replica holds what is known of one address of an upstream, and decides who may send a request there: slots, the
// admission queue, the circuit breaker, health and the detection of stuck servers. A Replica is shared by all configurations that
// name its address, also across reloads, so it holds facts only; the rules are in each configuration's Group.
//
// It never sends anything and starts neither goroutines nor timers: its callers make the attempts and the probes and report how they
// ended. It stands above package router, whose verdicts are reported to it, and which sees a replica through the interface
// router.Replica. It imports no other package of this project.
package replica

import (
	"math"
	"sync/atomic"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Replica is one address of an upstream. It is safe for concurrent use. The zero value with an Address is ready for use.
type Replica struct {
	Address string
	slots   slots
	health  health
	silence silence
}

var _ router.Replica = (*Replica)(nil)

// A Group is the replicas of one upstream under the rules of one configuration.
type Group struct {
	Replicas []*Replica
	// Queue bounds the admission queue of each replica.
	Queue QueueConfig
	limit atomic.Uint32
}

// Limit returns how many requests may be in flight at one replica; zero means no limit.
func (g *Group) Limit() int { return int(g.limit.Load()) }

// SetLimit sets how many requests may be in flight at one replica; zero means no limit. A higher limit admits waiting requests at
// once.
func (g *Group) SetLimit(n int) {
	g.limit.Store(uint32(min(max(n, 0), math.MaxInt32)))
	for _, r := range g.Replicas {
		r.slots.admit()
	}
}

// Take takes a slot at the ith replica, if one is free and no request waits for it; Replica.Release gives it back. While a single
// request tries whether the replica has recovered, other requests get no slot, unless force is set because no other replica is left
// for them.
func (g *Group) Take(i int, force bool) bool {
	r := g.Replicas[i]
	if !r.slots.take(g.Limit(), false) {
		return false
	}
	if force || r.startTrial() {
		return true
	}
	r.Release()
	return false
}
