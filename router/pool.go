package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
)

// A Policy is how a pool picks among its targets.
type Policy string

// The policies. LeastBusy is the default: with one to eight places to generate at once, anything else leaves one
// replica idle while another one queues.
const (
	First      Policy = "first"       // in the order written
	RoundRobin Policy = "round_robin" // in turn
	Random     Policy = "random"      // by chance
	Weighted   Policy = "weighted"    // by chance, in proportion to the weights
	LeastBusy  Policy = "least_busy"  // the replica with the fewest open requests, by chance among equals
)

// Policies lists every policy, for messages.
var Policies = []Policy{First, RoundRobin, Random, Weighted, LeastBusy}

// ParsePolicy reads a policy's name; the empty name is LeastBusy.
func ParsePolicy(name string) (Policy, error) {
	if name == "" {
		return LeastBusy, nil
	}
	for _, p := range Policies {
		if string(p) == name {
			return p, nil
		}
	}
	return "", fmt.Errorf("unknown lb_policy %q: use one of %s", name, join(Policies))
}

func join(policies []Policy) string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

// maxCandidates bounds a pool, so that what was tried fits one word.
const maxCandidates = 64

// A Candidate is a target at one replica of its upstream: what a policy picks.
type Candidate struct {
	Target  Target
	Replica *Replica
	weight  float64
}

// A Pool is a set of targets tried as equals.
type Pool struct {
	policy     Policy
	candidates []Candidate
	turn       atomic.Uint64
	localOnly  bool // only its local targets may be tried, whoever asks
}

// NewPool makes a pool of the targets. Weights, where given, are one for each target: a target's weight is shared by its
// replicas.
func NewPool(policy Policy, targets []Target, weights []int) (*Pool, error) {
	if len(weights) != 0 && len(weights) != len(targets) {
		return nil, fmt.Errorf("%d weights for %d targets: give one for each", len(weights), len(targets))
	}
	p := &Pool{policy: policy}
	for i, t := range targets {
		weight := 1.0
		if len(weights) != 0 {
			if weights[i] < 0 {
				return nil, fmt.Errorf("weight %d is below zero", weights[i])
			}
			weight = float64(weights[i])
		}
		for _, r := range t.Upstream.Replicas {
			p.candidates = append(p.candidates, Candidate{t, r, weight / float64(len(t.Upstream.Replicas))})
		}
	}
	if len(p.candidates) > maxCandidates {
		return nil, fmt.Errorf("%d replicas in one pool, at most %d are possible", len(p.candidates), maxCandidates)
	}
	return p, nil
}

// all has the bit of every candidate.
func (p *Pool) all() uint64 { return uint64(1)<<len(p.candidates) - 1 }

// ready are the candidates that are not shut out for the model that a client asked for.
func (p *Pool) ready(requested string) (ready uint64) {
	for i := range p.candidates {
		if c := &p.candidates[i]; c.Replica.Ready(c.Target.ModelFor(requested)) {
			ready |= 1 << i
		}
	}
	return ready
}

// locals are the candidates whose upstream is local, as far as is known now.
func (p *Pool) locals() (locals uint64) {
	for i := range p.candidates {
		if u := p.candidates[i].Target.Upstream; u.Local != nil && u.Local() {
			locals |= 1 << i
		}
	}
	return locals
}

// allowed are the candidates that a request may go to, which must stay local or not.
func (p *Pool) allowed(localOnly bool) uint64 {
	if localOnly || p.localOnly {
		return p.locals()
	}
	return p.all()
}

// misfits are the candidates that cannot take a request.
func (p *Pool) misfits(misfit func(Target) bool) (misfits uint64) {
	for i := range p.candidates {
		if misfit(p.candidates[i].Target) {
			misfits |= 1 << i
		}
	}
	return misfits
}

// same are the candidates that a try has already spoken for: the one that was tried, wherever it stands, and, where the target
// cannot take the request, that target at its other replicas.
func (p *Pool) same(t *try) (same uint64) {
	for i := range p.candidates {
		c := &p.candidates[i]
		if c.Target == t.target && (c.Replica == t.replica || t.outcome.Verdict == Unsupported) {
			same |= 1 << i
		}
	}
	return same
}

// take takes a slot at one of the candidates: at the one that the policy likes best of those that have one free. Force takes it
// also where another request is already trying whether the replica is well again.
func (p *Pool) take(among uint64, force bool) int {
	for among != 0 {
		i := p.pick(^among)
		if i < 0 {
			break
		}
		c := &p.candidates[i]
		if c.Replica.take(c.Target.Upstream.Limit()) {
			if force || c.Replica.claim() {
				return i
			}
			c.Replica.End()
		}
		among &^= 1 << i
	}
	return -1
}

// pick chooses among the candidates whose bit in tried is not set, or -1.
func (p *Pool) pick(tried uint64) int {
	switch p.policy {
	case First:
		return p.after(0, tried)
	case RoundRobin:
		return p.after(int((p.turn.Add(1)-1)%uint64(len(p.candidates))), tried)
	case Random:
		return p.draw(tried, func(int) float64 { return 1 })
	case Weighted:
		return p.draw(tried, func(i int) float64 { return p.candidates[i].weight })
	}
	return p.leastBusy(tried)
}

// after is the first untried candidate from start on, around the end.
func (p *Pool) after(start int, tried uint64) int {
	n := len(p.candidates)
	for i := range n {
		if at := (start + i) % n; tried&(1<<at) == 0 {
			return at
		}
	}
	return -1
}

// draw takes one untried candidate by chance. A weight of zero is drawn only when nothing else is left.
func (p *Pool) draw(tried uint64, weight func(int) float64) int {
	chosen, sum := -1, 0.0
	for i := range p.candidates {
		if tried&(1<<i) != 0 {
			continue
		}
		w := weight(i)
		sum += w
		if chosen < 0 || w > 0 && rand.Float64()*sum < w {
			chosen = i
		}
	}
	return chosen
}

func (p *Pool) leastBusy(tried uint64) int {
	best, fewest, ties := -1, 0, 0
	for i := range p.candidates {
		if tried&(1<<i) != 0 {
			continue
		}
		open := p.candidates[i].Replica.Open()
		switch {
		case best < 0 || open < fewest:
			best, fewest, ties = i, open, 1
		case open == fewest:
			ties++
			if rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}
