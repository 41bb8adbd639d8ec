package loadtest

import (
	"cmp"
	"maps"
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A recorder adds up the outcomes of requests. Its memory is bounded, however many there are.
type recorder struct {
	start  time.Time
	stream bool         // the answers are streams, so that their events have times
	events atomic.Int64 // with content, as they arrive

	mu       sync.Mutex
	inFlight int
	sum      Result
	failures map[[2]string]*Failures
	timeline *timeline
}

func newRecorder(start time.Time, stream bool) *recorder {
	return &recorder{
		start: start, stream: stream, failures: map[[2]string]*Failures{}, timeline: newTimeline(),
		sum: Result{
			Start: start, FirstToken: newDistribution(3), InterToken: newDistribution(3), PerToken: newDistribution(3), Latency: newDistribution(3),
			SendDelay: newDistribution(3),
		},
	}
}

// begin notes that a request was sent. Waited means that all slots were in use when it was due.
func (r *recorder) begin(intended, sent time.Time, waited bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight++
	r.sum.MaxInFlight = max(r.sum.MaxInFlight, r.inFlight)
	if waited {
		r.sum.Waited++
	} else {
		r.sum.SendDelay.add(sent.Sub(intended))
	}
}

func (r *recorder) end(o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	r.sum.busy += o.ended.Sub(o.sent)
	since := func(t time.Time) time.Duration { return t.Sub(r.start) }
	r.sum.Elapsed = max(r.sum.Elapsed, since(o.ended))
	switch {
	case o.canceled:
		r.sum.Canceled++
		return
	case o.failure != nil:
		r.sum.Failed++
		r.timeline.at(since(o.ended)).failed++
		r.fail(o.failure)
		return
	}
	r.sum.Succeeded++
	r.sum.InputTokens += o.usage.Input
	r.sum.CachedTokens += o.usage.Cached
	r.sum.OutputTokens += o.usage.Output
	if o.estimated {
		r.sum.Estimated++
	}
	if o.cache == "hit" || o.cache == "coalesced" {
		r.sum.FromCache++
	}
	latency := o.ended.Sub(o.intended)
	r.sum.Latency.add(latency)
	r.timeline.at(since(o.ended)).finished++
	measure(&r.timeline.at(since(o.intended)).latency, latency)

	// The server counts tokens for the whole answer; each event has its share of them.
	share := float64(o.usage.Output) / float64(len(o.events))
	for i, at := range o.events {
		r.timeline.at(since(at)).tokens += share
		if i > 0 {
			r.sum.InterToken.add(at.Sub(o.events[i-1]))
		}
	}
	if !r.stream {
		return
	}
	first, last := o.events[0], o.events[len(o.events)-1]
	r.sum.FirstToken.add(first.Sub(o.intended))
	measure(&r.timeline.at(since(o.intended)).firstToken, first.Sub(o.intended))
	if o.usage.Output > 1 && last.After(first) {
		r.sum.PerToken.add(last.Sub(first) / time.Duration(o.usage.Output-1))
	}
}

// maxFailures bounds how many kinds of failures are told apart: a server may make up codes.
const maxFailures = 50

func (r *recorder) fail(f *Failure) {
	key := [2]string{f.Name(), string(f.Class)}
	if r.failures[key] == nil && len(r.failures) >= maxFailures {
		key = [2]string{"other", ""}
	}
	kind := r.failures[key]
	if kind == nil {
		kind = &Failures{Name: key[0], Example: *f}
		r.failures[key] = kind
	}
	kind.Count++
}

func (r *recorder) progress(now time.Time) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Progress{Elapsed: now.Sub(r.start), Done: r.sum.Succeeded + r.sum.Failed, Failed: r.sum.Failed, InFlight: r.inFlight}
}

func (r *recorder) result(o Options, schedulerLag time.Duration, interrupted bool) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.sum
	res.Options, res.SchedulerLag, res.Interrupted = o, schedulerLag, interrupted
	res.Failures = slices.Collect(maps.Values(r.failures))
	slices.SortFunc(res.Failures, func(a, b *Failures) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	res.timeline = r.timeline
	return &res
}

// An Exchange is a request and its answer as they were, for Replay.
type Exchange struct {
	Start, End                time.Time
	Events                    []time.Time // those with content, in order
	InputTokens, OutputTokens int64
	Failure                   *Failure
}

// Replay returns the result of a run that took place elsewhere.
func Replay(o Options, start time.Time, exchanges []Exchange) *Result {
	r := newRecorder(start, o.Stream)
	for _, e := range exchanges {
		r.begin(e.Start, e.Start, false)
		r.end(outcome{
			intended: e.Start, sent: e.Start, ended: e.End, events: e.Events, usage: tokens.Usage{Input: e.InputTokens, Output: e.OutputTokens}, failure: e.Failure,
		})
	}
	return r.result(o, 0, false)
}

// Failures are the failures of one kind.
type Failures struct {
	Name    string
	Count   int
	Example Failure
}

// A Result is what a run measured. Durations and tokens are of the requests that succeeded.
type Result struct {
	Options Options
	Start   time.Time
	// Elapsed is the time from the start of the run to the end of the last answer.
	Elapsed time.Duration
	// Interrupted means that the run was ended early.
	Interrupted bool

	Succeeded, Failed int
	// Canceled requests were in flight when the run was interrupted.
	Canceled int
	Failures []*Failures
	// Estimated is the number of answers whose output tokens the server did not count. Each event with content counts as one, and four
	// bytes of an answer that is not a stream.
	Estimated int
	// FromCache is the number of answers from the cache of this gateway.
	FromCache int

	InputTokens, CachedTokens, OutputTokens int64

	// FirstToken is the time from the intended start of a request to its first event with content.
	FirstToken *Distribution
	// InterToken is the time between two neighboring events with content.
	InterToken *Distribution
	// PerToken is, for each answer, the time from its first to its last event with content, divided by its output tokens but one.
	PerToken *Distribution
	// Latency is the time from the intended start of a request to the end of its answer.
	Latency *Distribution

	// SendDelay is how much later than intended requests were sent although a slot was free.
	SendDelay *Distribution
	// Waited is the number of requests of an open loop that were sent late, because as many as allowed were in flight.
	Waited int
	// MaxInFlight is the largest number of requests in flight.
	MaxInFlight int
	// SchedulerLag is the 99th percentile of how long a ready goroutine waited for a CPU.
	SchedulerLag time.Duration

	busy     time.Duration // of all requests together
	timeline *timeline
}

// RequestsPerSecond returns the rate of answers.
func (r *Result) RequestsPerSecond() float64 { return perSecond(float64(r.Succeeded), r.Elapsed) }

// OutputTokensPerSecond returns the rate of output tokens of all answers together.
func (r *Result) OutputTokensPerSecond() float64 {
	return perSecond(float64(r.OutputTokens), r.Elapsed)
}

// InputTokensPerSecond returns the rate of input tokens.
func (r *Result) InputTokensPerSecond() float64 { return perSecond(float64(r.InputTokens), r.Elapsed) }

// MeanInFlight returns how many requests were in flight on average.
func (r *Result) MeanInFlight() float64 { return perSecond(r.busy.Seconds(), r.Elapsed) }

// ErrorRate returns the share of requests that failed.
func (r *Result) ErrorRate() float64 {
	if r.Succeeded+r.Failed == 0 {
		return 0
	}
	return float64(r.Failed) / float64(r.Succeeded+r.Failed)
}

// Timeline returns at most n intervals of the run.
func (r *Result) Timeline(n int) []Point { return r.timeline.points(n, r.Elapsed) }

func perSecond(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}

// schedulerLag measures how long goroutines that are ready wait for a CPU: a client that needs more than its machine has measures its
// own slowness.
type schedulerLag struct{ before []uint64 }

const schedulerLatencies = "/sched/latencies:seconds"

func startSchedulerLag() schedulerLag {
	counts, _ := readSchedulerLag()
	return schedulerLag{counts}
}

func readSchedulerLag() (counts []uint64, bounds []float64) {
	sample := []metrics.Sample{{Name: schedulerLatencies}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return nil, nil
	}
	h := sample[0].Value.Float64Histogram()
	return h.Counts, h.Buckets
}

// p99 returns the 99th percentile since the start.
func (s schedulerLag) p99() time.Duration {
	counts, bounds := readSchedulerLag()
	if len(counts) == 0 || len(counts) != len(s.before) {
		return 0
	}
	var total, below uint64
	for i := range counts {
		total += counts[i] - s.before[i]
	}
	for i := range counts {
		below += counts[i] - s.before[i]
		if total > 0 && float64(below) >= .99*float64(total) {
			if upper := bounds[i+1]; !math.IsInf(upper, 0) {
				return time.Duration(upper * float64(time.Second))
			}
			return time.Duration(bounds[i] * float64(time.Second))
		}
	}
	return 0
}
