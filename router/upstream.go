package router

import (
	"math"
	"sync/atomic"
)

// An Upstream is a server or service that generates, as far as routing is concerned: a name, its replicas, and the rules for
// them, which are those of one configuration.
type Upstream struct {
	Name     string
	Replicas []*Replica
	// Room is the waiting room of each replica.
	Room Room
	// Local tells whether what is sent there stays on machines of one's own; nil where it does not.
	Local func() bool
	limit atomic.Uint32
}

// Limit is how many requests may be at one replica at once; zero for no limit.
func (u *Upstream) Limit() int { return int(u.limit.Load()) }

// SetLimit sets how many requests may be at one replica at once; zero for no limit. Those that wait profit at once.
func (u *Upstream) SetLimit(n int) {
	u.limit.Store(uint32(min(max(n, 0), math.MaxInt32)))
	for _, r := range u.Replicas {
		r.admit()
	}
}

// A Replica is one address of an upstream. It holds facts only, never rules, so that every handler that names the
// address can share it, over reloads too.
type Replica struct {
	Address string
	slots   slots
	health  health
	silence silence
}

// A Target is an upstream and the model's name there.
type Target struct {
	Upstream *Upstream
	Model    string // empty: the name that the client asked for
}

// ModelFor is the name to send to the upstream for a client that asked for the given one.
func (t Target) ModelFor(requested string) string {
	if t.Model == "" {
		return requested
	}
	return t.Model
}
