// Package loadtest sends requests to a server that generates, and measures how it answers: throughput, time to first token,
// inter-token latency, errors. It decides when each request is sent, and what counts as a token, as an answer and as an error.
//
// It speaks to any server, not only to this gateway, and knows nothing of Caddy. It prints nothing: package report does. Its memory
// does not grow with the length of a run, because it keeps histograms, not requests. It stands above the packages that read the
// dialects in place, so that the same events count as content as in the gateway.
package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Options say what is sent to a server, and when.
type Options struct {
	// Target is the server, which Find completes.
	Target Target
	// Prompts are sent in turn.
	Prompts *Prompts
	// OutputTokens limits each answer; 0 leaves the limit to the server.
	OutputTokens int
	// Stream asks for streams. Without them, there is no time to first token and no inter-token latency.
	Stream bool
	// Concurrency is how many requests are sent at once. With a Rate it is the limit.
	Concurrency int
	// Rate makes the load open-loop: so many requests arrive in a second on average, in a Poisson process, whether or not the server
	// keeps up. 0 is closed-loop: the next request is sent when an answer ends.
	Rate float64
	// Requests and Duration end the run, whichever comes first; 0 is no limit. Requests in flight are finished.
	Requests int
	Duration time.Duration
	// Timeout is the longest time that a request may take.
	Timeout time.Duration
	// Warmup is the number of requests that are sent one after another before the measurement, and do not count.
	Warmup int
	// Seed decides about the arrivals, so that two servers can get the same ones.
	Seed uint64
	// Progress, unless nil, is called a few times a second.
	Progress func(Progress)
}

// Validate returns an error that says which option is wrong.
func (o *Options) Validate() error {
	switch {
	case o.Concurrency < 1 || o.Concurrency > maxConcurrency:
		return fmt.Errorf("concurrency %d: must be between 1 and %d", o.Concurrency, maxConcurrency)
	case o.Rate < 0 || math.IsNaN(o.Rate) || o.Rate > maxRate:
		return fmt.Errorf("rate %g: must be between 0 and %d requests a second", o.Rate, maxRate)
	case o.Requests < 0 || o.Duration < 0 || o.Requests == 0 && o.Duration == 0:
		return errors.New("requests, duration: one of them must be greater than 0, so that the run ends")
	case o.Timeout <= 0:
		return fmt.Errorf("timeout %v: must be greater than 0", o.Timeout)
	case o.Warmup < 0:
		return fmt.Errorf("warmup %d: must not be negative", o.Warmup)
	case o.OutputTokens < 0:
		return fmt.Errorf("output tokens %d: must not be negative", o.OutputTokens)
	}
	return nil
}

// The limits are far above what one machine can send.
const (
	maxConcurrency = 100_000
	maxRate        = 1_000_000
)

// Progress is how far a run has come.
type Progress struct {
	WarmingUp bool
	Elapsed   time.Duration
	Done      int // requests, failed ones included
	Failed    int
	InFlight  int
	// TokensPerSecond counts the events with content since the last call.
	TokensPerSecond float64
}

// Run sends the requests and returns what it measured, also when ctx ends it early. The error is that of a request before the
// measurement: without it, there is nothing to return.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	transport := newTransport(o.Concurrency)
	defer transport.CloseIdleConnections()
	sender := &sender{client: newClient(o.Target, o.Stream, o.OutputTokens, transport), timeout: o.Timeout, key: o.Target.Key}
	if err := warmUp(ctx, sender, o); err != nil {
		return nil, err
	}

	lag := startSchedulerLag()
	r := newRecorder(time.Now(), o.Stream)
	stopProgress := reportProgress(r, o.Progress)
	r.arrive(ctx, o, sender)
	stopProgress()
	return r.result(o, lag.p99(), ctx.Err() != nil), nil
}

func warmUp(ctx context.Context, s *sender, o Options) error {
	for i := range o.Warmup {
		if o.Progress != nil {
			o.Progress(Progress{WarmingUp: true})
		}
		got := s.send(ctx, o.Prompts.at(-1-i), time.Now(), nil)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted before the first measured request: %w", context.Cause(ctx))
		}
		if got.failure != nil {
			return got.failure
		}
	}
	return nil
}

// arrive sends the requests at their times and waits for the answers.
//
// A request in an open loop is measured from the time at which it should have been sent. So a server that answers slowly cannot make
// its own figures better by holding up the requests after it (coordinated omission).
func (r *recorder) arrive(ctx context.Context, o Options, s *sender) {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, o.Concurrency)
	random := rand.New(rand.NewPCG(o.Seed, 0))
	var deadline <-chan time.Time
	if o.Duration > 0 {
		timer := time.NewTimer(o.Duration)
		defer timer.Stop()
		deadline = timer.C
	}
	due, unblocked := r.start, r.start
	for i := 0; o.Requests == 0 || i < o.Requests; i++ {
		if o.Rate > 0 {
			due = due.Add(time.Duration(random.ExpFloat64() / o.Rate * float64(time.Second)))
			if !sleepUntil(ctx, due, deadline) {
				return
			}
		}
		select { // first, because it wins over a slot that is free as well
		case <-ctx.Done():
			return
		case <-deadline:
			return
		default:
		}
		full := len(slots) == cap(slots)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		case <-deadline:
			return
		}
		now := time.Now()
		if full {
			unblocked = now
		}
		intended, waited := now, false
		if o.Rate > 0 {
			intended, waited = due, !due.After(unblocked) && unblocked != r.start
		}
		r.begin(intended, now, waited)
		prompt := o.Prompts.at(i)
		group.Go(func() {
			r.end(s.send(ctx, prompt, intended, &r.events))
			<-slots
		})
	}
}

// sleepUntil reports false if ctx or the deadline ended first.
func sleepUntil(ctx context.Context, due time.Time, deadline <-chan time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-deadline:
	}
	return false
}

// reportProgress calls a function until the one that it returns is called.
func reportProgress(r *recorder, report func(Progress)) (stop func()) {
	if report == nil {
		return func() {}
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		const interval = 250 * time.Millisecond
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for last, lastAt := int64(0), r.start; ; {
			ended := false
			select {
			case <-tick.C:
			case <-over:
				ended = true
			}
			now, events := time.Now(), r.events.Load()
			p := r.progress(now)
			p.TokensPerSecond = float64(events-last) / max(now.Sub(lastAt).Seconds(), 1e-3)
			last, lastAt = events, now
			report(p)
			if ended {
				return
			}
		}
	}()
	return func() { close(over); <-done }
}

func newTransport(concurrency int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, concurrency
	t.DisableCompression = true // a compressed stream would arrive in lumps
	return t
}
