package router

import "sync/atomic"

// An Upstream is a server or service that generates, as far as routing is concerned: a name and its replicas.
type Upstream struct {
	Name     string
	Replicas []*Replica
}

// A Replica is one address of an upstream. It holds facts only, never rules, so that every handler that names the
// address can share it, over reloads too.
type Replica struct {
	Address string
	open    atomic.Int64
}

// Begin counts a request that was sent to the replica.
func (r *Replica) Begin() { r.open.Add(1) }

// End takes back what Begin counted.
func (r *Replica) End() { r.open.Add(-1) }

// Open is the number of requests that are at the replica now.
func (r *Replica) Open() int64 { return r.open.Load() }

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

// Ready tells whether requests for a model may be sent to the replica now.
func (r *Replica) Ready(string) bool { return true }
