package overview

import (
	"strings"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

const (
	// kept is how many requests are kept, maxShown how many of them a Snapshot has at most. The rest lets a caller find its own among
	// those of others.
	kept     = 1000
	maxShown = 200
	// inPlace is how many attempts of a request are kept without an allocation.
	inPlace = 2
	// maxName bounds the names that a client made up.
	maxName = 200
)

// Recent is the latest requests of the process. It is safe for concurrent use.
type Recent struct {
	mu      sync.Mutex
	number  uint64 // of the last request
	entries []entry

	pace pace
}

// An entry is a finished request. It is a copy: the record has the whole request and must not be kept.
type entry struct {
	number                       uint64
	ended                        time.Time
	id, identity, key            string
	endpoint, model              string
	target, route, cache, code   string
	status                       int
	stream, hasCost              bool
	verdict                      router.Verdict
	queue, firstContent, elapsed time.Duration
	input, output, cached        int64
	cost                         float64
	first                        [inPlace]try
	tries                        int
	more                         []try // beyond the first
}

type try struct {
	target, address string
	verdict         router.Verdict
	status          int
	elapsed         time.Duration
}

// AcquireRecent returns the latest requests of the process, which all handlers share, also across reloads.
func AcquireRecent(c *state.Closer) *Recent {
	r, _ := state.Acquire(c.AddLasting, state.Recent, "", func() (*Recent, error) { return NewRecent(), nil }) // building it cannot fail
	return r
}

// NewRecent returns an empty list.
func NewRecent() *Recent { return &Recent{entries: make([]entry, kept)} }

// Record adds a request that is over, unless it only asked what the gateway knows. It copies what it keeps into an old entry, so that it
// allocates nothing, except for a request with many attempts.
func (r *Recent) Record(rec *exchange.Record) {
	switch rec.Endpoint {
	case "", "models", "usage", "status":
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &r.entries[r.number%kept]
	r.number++
	e.number = r.number
	e.ended = rec.Started.Add(rec.Duration)
	e.id, e.identity, e.key, e.endpoint, e.model = rec.ID, rec.Identity, rec.Key, rec.Endpoint, short(rec.Model)
	e.target, e.route, e.cache, e.code = short(rec.Target), short(rec.Route), rec.Cache, ""
	if rec.Err != nil {
		e.code = rec.Err.Code
	}
	e.status, e.stream, e.verdict = rec.Status, rec.Stream, rec.Verdict
	e.queue, e.firstContent, e.elapsed = rec.Queue, rec.FirstContent, rec.Duration
	e.input, e.output, e.cached = rec.Usage.Input, rec.Usage.Output, rec.Usage.Cached
	e.hasCost, e.cost = rec.HasCost, rec.Cost
	e.tries, e.more = 0, nil
	for i := range rec.Attempts {
		a := &rec.Attempts[i]
		t := try{short(a.Target), a.Address, a.Verdict, a.Status, a.Duration}
		if e.tries < inPlace {
			e.first[e.tries] = t
			e.tries++
		} else {
			e.more = append(e.more, t)
		}
	}
}

// short returns a name, or a copy of its beginning if it is long, so that little memory is kept.
func short(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "") + "…"
}

// walk calls visit with each request that came after a number, the last one first, until it returns false. The lock is held, so visit
// must copy what it keeps.
func (r *Recent) walk(after uint64, visit func(*entry) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := r.number; n > after && r.number-n < kept; n-- {
		if !visit(&r.entries[(n-1)%kept]) {
			return
		}
	}
}

// eachTry calls visit for each attempt, in their order.
func (e *entry) eachTry(visit func(try)) {
	for _, t := range e.first[:e.tries] {
		visit(t)
	}
	for _, t := range e.more {
		visit(t)
	}
}

// show returns the request as a viewer may see it.
func (e *entry) show(v Viewer) Request {
	r := Request{
		Number: e.number, ID: e.id, Started: e.ended.Add(-e.elapsed), Key: e.key, Endpoint: e.endpoint, Model: e.model, Stream: e.stream,
		Target: e.target, Route: e.route, Status: e.status, Verdict: e.verdict.String(), Error: e.code, Cache: e.cache,
		Queue: millis(e.queue), TTFT: millis(e.firstContent), Duration: millis(e.elapsed),
		Input: e.input, Output: e.output, Cached: e.cached, Attempts: []Try{},
	}
	if e.hasCost {
		usd := e.cost // the entry will be overwritten
		r.USD = &usd
	}
	e.eachTry(func(t try) {
		shown := Try{Target: t.target, Verdict: t.verdict.String(), Status: t.status, Duration: millis(t.elapsed)}
		if v.seesAll() {
			shown.Address = t.address
		}
		r.Attempts = append(r.Attempts, shown)
	})
	return r
}

// failed reports whether the gateway or an upstream is to blame for how the request ended.
func (e *entry) failed() bool { return e.status >= 500 || e.verdict.IsFailure() }

// served reports whether the request was answered by an upstream, and at which replica.
func (e *entry) served() (address string, ok bool) {
	e.eachTry(func(t try) { address, ok = t.address, t.verdict == router.OK || t.verdict == router.ClientClosed })
	return address, ok && e.firstContent > 0
}

// millis returns seconds with three decimal places.
func millis(d time.Duration) float64 { return float64(d.Round(time.Millisecond).Milliseconds()) / 1000 }
