package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Tallies are the counts behind the metrics whose labels are models and targets. There may be thousands of both, and a counter of the
// Prometheus client takes 700 bytes, a histogram 2,500. So all counts of a model and target are the fields of one struct, and collect.go
// gives them their labels when metrics are read. Like all metrics, they belong to the process.
var (
	pairTallies   = newTallies(pairKey{otherLabel, otherTarget}, beginPair)
	targetTallies = newTallies(otherTarget, beginTarget)
	modelTallies  = newTallies(otherLabel, beginModel)
)

// maxTallies is how many models, targets, and pairs of them are counted separately. A pair has up to 70 series; 10,000 pairs took
// 60 MiB each time that metrics were read.
const maxTallies = 1000

type (
	// A pairKey is a model and a target.
	pairKey struct {
		model  string
		target targetName
	}
	targetName struct{ upstream, model string }
)

// otherTarget stands for the targets that are not counted separately.
var otherTarget = targetName{model: otherLabel}

// label returns the target as upstream/model, or an empty label without an upstream.
func (t targetName) label() string {
	if t.upstream == "" {
		return t.model // empty, or that of otherTarget
	}
	return t.upstream + "/" + t.model
}

// tallies are the tallies of one kind, by their labels: of the first maxTallies keys, and one of all other keys.
type tallies[K comparable, T any] struct {
	other K
	begin func(K) T

	mu    sync.RWMutex
	known map[K]T
}

func newTallies[K comparable, T any](other K, begin func(K) T) *tallies[K, T] {
	return &tallies[K, T]{other: other, begin: begin, known: map[K]T{}}
}

// of returns the tally of a key, and begins one when it is first needed.
func (ts *tallies[K, T]) of(key K) T {
	ts.mu.RLock()
	t, ok := ts.find(key)
	ts.mu.RUnlock()
	if ok {
		return t
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t, ok = ts.find(key); ok {
		return t
	}
	if len(ts.known) >= maxTallies {
		key = ts.other
	}
	t = ts.begin(key)
	ts.known[key] = t
	return t
}

// find returns the tally of a key, or that of all other keys if no more keys are counted separately.
func (ts *tallies[K, T]) find(key K) (t T, ok bool) {
	if t, ok = ts.known[key]; !ok && len(ts.known) >= maxTallies {
		t, ok = ts.known[ts.other]
	}
	return t, ok
}

// all returns all tallies. They are collected without the lock, so that nobody waits for it.
func (ts *tallies[K, T]) all() []T {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return slices.Collect(maps.Values(ts.known))
}

// A pairTally counts the requests of one model and target.
type pairTally struct {
	model, target string
	begun         time.Time

	mu        sync.Mutex
	endpoints []endpointTally
	answers   answerTally
}

// An endpointTally counts what differs by the endpoint, too.
type endpointTally struct {
	endpoint string
	ended    counts[ending]
	latency  histogram
}

// An ending is how a request ended.
type ending struct {
	status  int
	verdict router.Verdict
}

// An answerTally counts answers.
type answerTally struct {
	begun                            bool // something was counted
	input, output, cached, reasoning float64
	estimated, wasted, clientClosed  float64
	cost, costReference, costUnknown float64
	firstToken, perToken             histogram
}

// A targetTally counts what belongs to a target, whatever the model.
type targetTally struct {
	target string
	begun  time.Time

	mu            sync.Mutex
	attempts      counts[router.Verdict]
	forecastRatio histogram
}

// A modelTally counts what belongs to a model, whatever the target.
type modelTally struct {
	model string
	begun time.Time

	mu            sync.Mutex
	queueWait     histogram
	fallbacks     counts[string] // by reason
	limited       counts[string] // by the error's code
	cached        counts[string] // by what the cache did
	input, output float64        // tokens of answers from the cache
}

func beginPair(key pairKey) *pairTally {
	return &pairTally{model: key.model, target: key.target.label(), begun: time.Now()}
}

func beginTarget(key targetName) *targetTally {
	return &targetTally{target: key.label(), begun: time.Now()}
}

func beginModel(model string) *modelTally { return &modelTally{model: model, begun: time.Now()} }

// record counts a finished request.
func (t *pairTally) record(rec *exchange.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.endpoint(endpointLabel(rec))
	e.ended.add(ending{rec.Status, rec.Verdict}, 1)
	e.latency.observe(latencyBuckets, rec.Duration.Seconds())
	t.answers.record(rec)
}

func (t *pairTally) endpoint(name string) *endpointTally {
	for i := range t.endpoints {
		if t.endpoints[i].endpoint == name {
			return &t.endpoints[i]
		}
	}
	t.endpoints = append(t.endpoints, endpointTally{endpoint: name})
	return &t.endpoints[len(t.endpoints)-1]
}

// otherLabel stands for every name that is not in the configuration, and for those that are not counted separately.
const otherLabel = "other"

func endpointLabel(rec *exchange.Record) string { return cmp.Or(rec.Endpoint, otherLabel) }

// generated reports whether an upstream generated anything for the request.
func generated(rec *exchange.Record) bool {
	return rec.FirstContent > 0 && rec.Configured.Upstream != nil
}

// record counts an answer if there was one, or if its client disconnected.
func (a *answerTally) record(rec *exchange.Record) {
	a.begun = a.begun || generated(rec) || rec.Verdict == router.ClientClosed
	if rec.Verdict == router.ClientClosed {
		a.clientClosed++
		a.wasted += float64(rec.Usage.Output)
	}
	if !generated(rec) {
		return
	}
	a.input += float64(rec.Usage.Input)
	a.output += float64(rec.Usage.Output)
	a.cached += float64(rec.Usage.Cached)
	a.reasoning += float64(rec.Usage.Reasoning)
	if rec.Estimated {
		a.estimated++
	}
	if rec.HasCost {
		a.cost += rec.Cost
		if rec.Saved != 0 {
			a.costReference += max(rec.Saved+rec.Cost, 0)
		}
	} else {
		a.costUnknown++
	}
	if rec.Stream {
		a.firstToken.observe(waitBuckets, rec.FirstContent.Seconds())
		if each := timePerToken(rec); each > 0 {
			a.perToken.observe(perTokenBuckets, each.Seconds())
		}
	}
}

// timePerToken returns the average time between two output tokens, or zero if there were fewer than two.
func timePerToken(rec *exchange.Record) time.Duration {
	if rec.Usage.Output < 2 {
		return 0
	}
	return (rec.Duration - rec.FirstContent) / time.Duration(rec.Usage.Output-1)
}

func (t *targetTally) attempt(v router.Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts.add(v, 1)
}

func (t *targetTally) forecast(ratio float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forecastRatio.observe(ratioBuckets, ratio)
}

func (t *modelTally) waited(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queueWait.observe(waitBuckets, d.Seconds())
}

// left counts a request that left its first pool.
func (t *modelTally) left(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fallbacks.add(reason, 1)
}

// limit counts a request that the gateway rejected.
func (t *modelTally) limit(code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limited.add(code, 1)
}

// cache counts a request by what the cache did, and the tokens that it saved.
func (t *modelTally) cache(result string, input, output int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cached.add(result, 1)
	t.input += float64(input)
	t.output += float64(output)
}

// counts are counters by a label with few values.
type counts[K comparable] []count[K]

type count[K comparable] struct {
	of K
	n  float64
}

func (c *counts[K]) add(of K, n float64) {
	for i := range *c {
		if (*c)[i].of == of {
			(*c)[i].n += n
			return
		}
	}
	*c = append(*c, count[K]{of, n})
}

// A histogram counts observations by the bucket that they fall into; the last is the one without an upper bound. It has no buckets before
// the first observation.
type histogram struct {
	buckets []uint64
	sum     float64
}

func (h *histogram) observe(bounds []float64, value float64) {
	if h.buckets == nil {
		h.buckets = make([]uint64, len(bounds)+1)
	}
	h.buckets[sort.SearchFloat64s(bounds, value)]++
	h.sum += value
}
