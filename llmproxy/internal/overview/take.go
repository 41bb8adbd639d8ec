package overview

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Viewer is who looks. One without an identity sees everything.
type Viewer struct {
	// Key and Identity are those of a caller, as in a record. It sees its own requests, and of those of others only what follows from
	// the load that they cause.
	Key, Identity string
}

func (v Viewer) seesAll() bool { return v.Identity == "" }

// sees reports whether the viewer may see the requests of an identity.
func (v Viewer) sees(identity string) bool { return v.seesAll() || v.Identity == identity }

// window is the time whose requests are summed up as Traffic.
const window = time.Minute

// Take returns what a viewer may see now, except for the spend, which ReadSpending returns. Its requests are those after a number, and at most
// maxShown.
func Take(v Viewer, after uint64) *Snapshot {
	now := time.Now()
	s := &Snapshot{At: now, Upstreams: []Upstream{}, Spending: Spending{Spend: []Spend{}}, Requests: []Request{}}
	recent := new(Recent)
	state.Each(state.Recent, func(_ any, r *Recent) { recent = r })
	latest := recent.sum(v, after, now, s)
	var upstreams []*upstream.Upstream
	EachReplica(func(u *upstream.Upstream, i int) {
		if n := len(upstreams); n == 0 || upstreams[n-1] != u {
			upstreams = append(upstreams, u)
			s.Upstreams = append(s.Upstreams, Upstream{Name: u.Name, Kind: u.ActualKind().Name, Local: u.IsLocal()})
		}
		shown := &s.Upstreams[len(s.Upstreams)-1]
		shown.Replicas = append(shown.Replicas, newReplica(v, u, i, latest[u.Replicas[i].Address]))
		if at := u.Replicas[i]; v.seesAll() {
			shown.Replicas[len(shown.Replicas)-1].Streaming = hundredths(recent.pace.of(at.Address, at.Contents(), now))
		}
	})
	return s
}

// A rate sums up how fast a replica, or all of them, generated within the window.
type rate struct {
	tokens float64
	first  []time.Duration // to the first tokens of streams
}

// add adds the part of a request that falls into the window, which ends now.
func (r *rate) add(e *entry, now time.Time) {
	generating := e.elapsed - e.firstContent
	share := 1.0
	if began := e.ended.Add(-generating); began.Before(now.Add(-window)) && generating > 0 {
		share = float64(e.ended.Sub(now.Add(-window))) / float64(generating)
	}
	r.tokens += share * float64(e.output)
	if e.stream {
		r.first = append(r.first, e.firstContent)
	}
}

// quantile returns the time within which a part of the streams had their first token, or nil without any stream.
func (r *rate) quantile(part float64) *float64 {
	if len(r.first) == 0 {
		return nil
	}
	slices.Sort(r.first)
	at := millis(r.first[int(math.Ceil(part*float64(len(r.first))))-1])
	return &at
}

// sum adds the requests, the traffic and the caches to a snapshot, and returns how fast each replica was.
func (r *Recent) sum(v Viewer, after uint64, now time.Time, s *Snapshot) map[string]*rate {
	all, replicas := new(rate), map[string]*rate{}
	t, oldest, walked := &s.Traffic, now, 0
	r.walk(0, func(e *entry) bool {
		walked++
		oldest = e.ended
		isOld := now.Sub(e.ended) > window
		if isOld && (e.number <= after || len(s.Requests) == maxShown) {
			return false
		}
		if !v.sees(e.identity) {
			return true
		}
		if e.number > after && len(s.Requests) < maxShown {
			s.Requests = append(s.Requests, e.show(v))
		}
		if isOld {
			return true
		}
		t.Requests++
		if e.failed() {
			t.Failed++
		}
		if !v.seesAll() {
			s.Cache.count(e.cache)
		}
		if address, ok := e.served(); ok {
			if replicas[address] == nil {
				replicas[address] = new(rate)
			}
			replicas[address].add(e, now)
			all.add(e, now)
		}
		return true
	})
	covered := window
	if walked >= kept-1 { // older ones have been overwritten
		covered = min(max(now.Sub(oldest), time.Second), window)
	}
	t.Window = millis(covered)
	t.RequestsPerSecond, t.TokensPerSecond = hundredths(float64(t.Requests)/covered.Seconds()), hundredths(all.tokens/covered.Seconds())
	t.TTFTMedian, t.TTFT95 = all.quantile(.5), all.quantile(.95)
	for _, r := range replicas {
		r.tokens /= covered.Seconds()
	}
	state.Each(state.Caches, func(_ any, c *caching.Cache) {
		s.Cache.Configured = true
		if v.seesAll() {
			s.Cache.Hits += c.Counts.Hits.Load()
			s.Cache.Coalesced += c.Counts.Coalesced.Load()
			s.Cache.Misses += c.Counts.Misses.Load()
			s.Cache.Bypassed += c.Counts.Bypassed.Load()
			s.Cache.SavedTokens += c.Counts.SavedTokens.Load()
		}
	})
	return replicas
}

// count counts what the cache did for a request.
func (c *Cache) count(result string) {
	switch result {
	case "hit":
		c.Hits++
	case "coalesced":
		c.Coalesced++
	case "miss":
		c.Misses++
	case "bypass":
		c.Bypassed++
	}
}

func newReplica(v Viewer, u *upstream.Upstream, i int, r *rate) Replica {
	at := u.Replicas[i]
	status, capacity, queue := at.Status(), u.Capacity(i), at.Queue()
	shown := Replica{
		Address: strconv.Itoa(i + 1), State: status.State.String(), Slots: capacity.Slots, InUse: status.InFlight, Foreign: capacity.Foreign, Waiting: status.Waiting,
		Active: []Active{}, Queue: []Waiting{},
	}
	if !status.Since.IsZero() {
		shown.Since = &status.Since
	}
	if status.State != replica.Up {
		shown.Verdict = status.Reason.String()
	}
	if v.seesAll() {
		shown.Address, shown.Hidden = at.Address, status.HiddenModels
		slices.Sort(shown.Hidden)
		shown.Models, _ = u.InMemory(at)
		slices.Sort(shown.Models)
	}
	if r != nil {
		shown.TokensPerSecond, shown.TTFT = hundredths(r.tokens), r.quantile(.5)
	}
	visible := func(q *admission.Request) bool { return v.sees(q.Caller.Key) }
	for _, a := range queue.Active(visible) {
		shown.Active = append(shown.Active, Active{ID: a.ID, Key: keyOf(&a.Request), Model: a.Name, For: millis(time.Since(a.Since)), GivenUp: a.Abandoned})
	}
	for _, w := range queue.WaitingFor(visible) {
		item := Waiting{ID: w.ID, Key: keyOf(&w.Request), Model: w.Name, Priority: w.Priority.String(), Position: w.Position, Waited: millis(time.Since(w.Since))}
		if w.Known {
			wait := millis(w.Wait)
			item.Wait = &wait
		}
		shown.Queue = append(shown.Queue, item)
	}
	return shown
}

// keyOf returns the name of the key that a request came with.
func keyOf(q *admission.Request) string {
	_, name, _ := strings.Cut(q.Caller.Key, "/")
	return name
}

// ReadSpending returns what was used today. It may take long, because it reads the usage ledger.
func ReadSpending() Spending {
	now := time.Now()
	s := Spending{Spend: []Spend{}}
	rows, err := state.QueryUsage(ledger.Query{From: now, To: now, By: []string{"key"}})
	if err != nil {
		s.SpendError = err.Error()
	}
	for _, row := range rows {
		s.Spend = append(s.Spend, Spend{Key: row.Key, Requests: row.Requests, Input: row.Input, Output: row.Output, USD: row.USD, Unpriced: row.Unpriced})
	}
	slices.SortStableFunc(s.Spend, func(a, b Spend) int { return cmp.Compare(b.USD, a.USD) })
	return s
}

// For returns what a viewer may see of it. Only a viewer that sees everything is told why it could not be read.
func (s Spending) For(v Viewer) Spending {
	if v.seesAll() {
		return s
	}
	return Spending{Spend: slices.DeleteFunc(slices.Clone(s.Spend), func(of Spend) bool { return of.Key != v.Key })}
}

// hundredths returns a number with two decimal places, which is enough for a rate.
func hundredths(n float64) float64 { return math.Round(n*100) / 100 }
