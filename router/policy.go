package router

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/prefix"
)

// A Policy is how a pool picks among its targets.
type Policy string

// The policies. LeastBusy is the default: where a replica has one to eight slots, any other policy leaves one replica idle while
// requests queue at another.
const (
	First      Policy = "first"       // in the order written
	RoundRobin Policy = "round_robin" // in turn
	Random     Policy = "random"      // at random
	Weighted   Policy = "weighted"    // at random, in proportion to the weights
	LeastBusy  Policy = "least_busy"  // the fewest requests at the replica, at random among equals
	Prefix     Policy = "prefix"      // where the longest beginning of the prompt is probably cached, unless that is too busy
)

var policies = []string{string(First), string(RoundRobin), string(Random), string(Weighted), string(LeastBusy), string(Prefix)}

// PolicyNames returns the names of all policies.
func PolicyNames() []string { return slices.Clone(policies) }

// ParsePolicy parses a policy's name; the empty name is LeastBusy.
func ParsePolicy(name string) (Policy, error) {
	if name == "" {
		return LeastBusy, nil
	}
	if slices.Contains(policies, name) {
		return Policy(name), nil
	}
	return "", fmt.Errorf("unknown lb_policy %q: use one of %s", name, strings.Join(policies, ", "))
}

// A Preference is whether a candidate has the model of a request in memory. It comes before the pool's policy.
type Preference uint8

// The preferences, from the best one on.
const (
	Resident Preference = iota // it has the model in memory
	Loadable                   // it has to load the model
	InUse                      // it would probably have to unload another model that is in use
)

// A Candidate is a target at one replica of its upstream: what a policy picks.
type Candidate struct {
	Target  Target
	Replica int // its number in Target.Upstream.Replicas
	index   int // in the pool
	weight  float64
}

func (c *Candidate) replica() Replica { return c.Target.Upstream.Replicas[c.Replica] }

// A candidates is a set of candidates of a pool, by the bits of their indices.
type candidates = uint64

// maxCandidates is the size of the largest pool, so that its candidates fit one word.
const maxCandidates = 64

// A Pool is a set of targets that are tried as equals.
type Pool struct {
	policy     Policy
	candidates []Candidate
	turn       atomic.Uint64 // of RoundRobin
	localOnly  bool          // only its local targets may be tried, by any request
	spill      *admission.Spill
}

// NewPool returns a new pool of the targets. Weights, if given, has one weight for each target, which its replicas share.
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
		for n := range t.Upstream.Replicas {
			p.candidates = append(p.candidates, Candidate{t, n, len(p.candidates), weight / float64(len(t.Upstream.Replicas))})
		}
	}
	if len(p.candidates) > maxCandidates {
		return nil, fmt.Errorf("%d replicas in one pool, at most %d are possible", len(p.candidates), maxCandidates)
	}
	return p, nil
}

// Targets returns the targets of the pool, each once, whatever the number of its replicas.
func (p *Pool) Targets() (list []Target) {
	for i := range p.candidates {
		if p.candidates[i].Replica == 0 {
			list = append(list, p.candidates[i].Target)
		}
	}
	return list
}

// where returns the candidates for which is returns true.
func (p *Pool) where(is func(*Candidate) bool) (set candidates) {
	for i := range p.candidates {
		if is(&p.candidates[i]) {
			set |= 1 << i
		}
	}
	return set
}

func (p *Pool) all() candidates { return 1<<len(p.candidates) - 1 }

// ready returns the candidates that may be sent requests for the model that a client asked for.
func (p *Pool) ready(requested string) candidates {
	return p.where(func(c *Candidate) bool { return c.replica().Ready(c.Target.ModelFor(requested)) })
}

// allowed returns the candidates that a request may go to: only local ones if the request or the pool is limited to them.
func (p *Pool) allowed(localOnly bool) candidates {
	if !localOnly && !p.localOnly {
		return p.all()
	}
	return p.where(func(c *Candidate) bool { u := c.Target.Upstream; return u.Local != nil && u.Local() })
}

// ok returns the candidates for whose targets ok returns true.
func (p *Pool) ok(ok func(Target) bool) candidates {
	return p.where(func(c *Candidate) bool { return ok(c.Target) })
}

// needsHead reports whether the policy picks by the head of the prompt. A single candidate is picked without it.
func (p *Pool) needsHead() bool { return p.policy == Prefix && len(p.candidates) > 1 }

// pick returns the index of the candidate that the policy prefers among the given ones, at least one.
func (p *Pool) pick(among candidates) int {
	switch p.policy {
	case First:
		return bits.TrailingZeros64(among)
	case RoundRobin:
		start := int((p.turn.Add(1) - 1) % uint64(len(p.candidates)))
		if from := among >> start << start; from != 0 {
			among = from
		}
		return bits.TrailingZeros64(among)
	case Random, Weighted:
		return p.draw(among)
	}
	return p.leastBusy(among)
}

// draw picks at random. It picks a candidate with weight zero only if no other is left.
func (p *Pool) draw(among candidates) int {
	chosen, sum := -1, 0.0
	for i, c := range p.candidates {
		if among&(1<<i) == 0 {
			continue
		}
		weight := c.weight
		if p.policy == Random {
			weight = 1
		}
		sum += weight
		if chosen < 0 || weight > 0 && rand.Float64()*sum < weight {
			chosen = i
		}
	}
	return chosen
}

// cached picks the candidate that has probably most of the prompt in its cache, among those with at most a quarter more requests than the
// mean of all ready ones will be. Among equals, it picks one that has had requests of the same session, and then the least busy
// one. Without any such candidate, it picks the least busy one.
func (p *Pool) cached(among, ready candidates, requested string, head *prefix.Head) int {
	inFlight := 0
	for left := ready; left != 0; left &= left - 1 {
		inFlight += p.candidates[bits.TrailingZeros64(left)].replica().Load()
	}
	n := bits.OnesCount64(ready)
	most := (5*(inFlight+1) + 4*n - 1) / (4 * n) // 1.25 × the mean with this request, rounded up
	var best candidates
	bestBlocks, bestSession := 0, false
	for left := among; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		c := &p.candidates[i]
		if c.replica().Load() > most {
			continue
		}
		blocks, session := c.replica().Cached(c.Target.ModelFor(requested), head)
		switch {
		case blocks == 0 && !session, blocks < bestBlocks, blocks == bestBlocks && bestSession && !session:
		case best != 0 && blocks == bestBlocks && session == bestSession:
			best |= 1 << i
		default:
			best, bestBlocks, bestSession = 1<<i, blocks, session
		}
	}
	if best == 0 {
		best = among
	}
	return p.leastBusy(best)
}

func (p *Pool) leastBusy(among candidates) int {
	best, fewest, ties := -1, 0, 0
	for i := range p.candidates {
		if among&(1<<i) == 0 {
			continue
		}
		n := p.candidates[i].replica().Load()
		switch {
		case best < 0 || n < fewest:
			best, fewest, ties = i, n, 1
		case n == fewest:
			ties++
			if rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}
