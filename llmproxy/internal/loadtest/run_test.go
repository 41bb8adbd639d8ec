package loadtest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Each dialect is measured with the server's own counts, with and without streams.
func TestDialects(t *testing.T) {
	for _, test := range []struct {
		kind    string
		dialect Dialect
		path    string
	}{
		{"openai", OpenAI, "/v1/chat/completions"},
		{"vllm", OpenAI, "/v1/chat/completions"},
		{"anthropic", Anthropic, "/v1/messages"},
		{"ollama", Ollama, "/api/chat"},
		{"ollama", OpenAI, "/v1/chat/completions"},
	} {
		for _, stream := range []bool{true, false} {
			name := test.kind + " in " + string(test.dialect)
			if !stream {
				name += ", no stream"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				fake, target := find(t, test.kind, test.dialect)
				fake.Always(fakellm.Text("a", "b", "c").Usage(40, 30, 0))
				o := options(target, 6)
				o.Stream = stream
				r := measured(t, o)
				if r.Succeeded != 6 || r.Failed != 0 || r.InputTokens != 240 || r.OutputTokens != 180 || r.Estimated != 0 {
					t.Errorf("got %d answers, %d failures, %d and %d tokens, %d estimates: %+v", r.Succeeded, r.Failed, r.InputTokens, r.OutputTokens, r.Estimated, r.Failures)
				}
				wantFirst, wantBetween := int64(6), int64(12)
				if !stream {
					wantFirst, wantBetween = 0, 0
				}
				if r.FirstToken.Count() != wantFirst || r.InterToken.Count() != wantBetween || r.PerToken.Count() > wantFirst || r.Latency.Count() != 6 {
					t.Errorf("got %d first tokens, %d gaps, %d times per token, %d latencies", r.FirstToken.Count(), r.InterToken.Count(), r.PerToken.Count(), r.Latency.Count())
				}
				for _, request := range fake.Requests() {
					if request.Path != test.path || !strings.Contains(string(request.Body), `"model":"tiny"`) || !strings.Contains(string(request.Body), "16") {
						t.Errorf("sent %s %s", request.Path, request.Body)
					}
				}
				if n := len(fake.Requests()); n != 6 {
					t.Errorf("the server got %d requests", n)
				}
			})
		}
	}
}

// Requests before the measurement do not count, and a failure there is an error that says why.
func TestWarmup(t *testing.T) {
	t.Parallel()
	fake, target := find(t, "openai", OpenAI)
	o := options(target, 3)
	o.Warmup = 2
	if r := measured(t, o); r.Succeeded != 3 || len(fake.Requests()) != 5 {
		t.Errorf("counted %d of %d requests", r.Succeeded, len(fake.Requests()))
	}
	fake.Next(fakellm.Unauthorized())
	var f *Failure
	if _, err := Run(t.Context(), o); !errors.As(err, &f) || f.Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
}

// A run that is interrupted ends at once, with what it measured so far.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	fake, target := find(t, "openai", OpenAI, fakellm.Text("a"), fakellm.Text("a"))
	release := make(chan struct{})
	defer close(release)
	fake.Always(fakellm.Text("a", "b").HoldAfter(1, release))
	o := options(target, 0)
	o.Duration = time.Hour
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	o.Progress = func(p Progress) {
		if p.Done == 2 && p.InFlight == 2 {
			interrupt()
		}
	}
	r, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Succeeded != 2 || r.Canceled != 2 || r.Failed != 0 {
		t.Errorf("got %+v", r)
	}
	if w := strings.Join(r.Warnings(), "\n"); !strings.Contains(w, "interrupted. 2 requests in flight") {
		t.Errorf("got the warnings %s", w)
	}
	fake.WaitIdle(t)
}

// A timedClient answers after the times that a function returns, one for each event.
type timedClient struct {
	times func(n int) []time.Duration
	sent  atomic.Int64
}

func (c *timedClient) open(ctx context.Context, _ Prompt) (answer, error) {
	return &timedAnswer{ctx, c.times(int(c.sent.Add(1)))}, nil
}

type timedAnswer struct {
	ctx  context.Context
	left []time.Duration
}

func (a *timedAnswer) header() http.Header { return nil }
func (a *timedAnswer) close()              {}

func (a *timedAnswer) next() (openai.Event, error) {
	if len(a.left) == 0 {
		return openai.Event{}, io.EOF
	}
	select {
	case <-time.After(a.left[0]):
	case <-a.ctx.Done():
		return openai.Event{}, a.ctx.Err()
	}
	a.left = a.left[1:]
	return openai.Event{Content: true, Finish: len(a.left) == 0}, nil
}

// simulate runs a load test in a bubble, where time passes only as the answers take it.
func simulate(t *testing.T, o Options, times func(n int) []time.Duration) (r *Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o.Timeout == 0 {
			o.Timeout = time.Hour
		}
		o.Stream, o.Prompts = true, MakeUp(1, 1)
		recorder := newRecorder(time.Now(), true)
		recorder.arrive(t.Context(), o, &sender{client: &timedClient{times: times}, timeout: o.Timeout})
		r = recorder.result(o, 0, false)
	})
	return r
}

// A closed loop keeps so many requests in flight, and its figures are those of the answers.
func TestClosedLoop(t *testing.T) {
	t.Parallel()
	r := simulate(t, Options{Concurrency: 4, Requests: 40}, func(int) []time.Duration {
		return []time.Duration{time.Second, 100 * time.Millisecond, 100 * time.Millisecond}
	})
	if r.Elapsed != 12*time.Second || r.MaxInFlight != 4 || r.Succeeded != 40 || r.Waited != 0 {
		t.Errorf("took %v with %d at once, %d answers, %d waited", r.Elapsed, r.MaxInFlight, r.Succeeded, r.Waited)
	}
	for name, test := range map[string]struct{ got, want time.Duration }{
		"ttft": {r.FirstToken.Mean(), time.Second}, "itl": {r.InterToken.Mean(), 100 * time.Millisecond}, "tpot": {r.PerToken.Mean(), 100 * time.Millisecond},
		"latency": {r.Latency.Mean(), 1200 * time.Millisecond},
	} {
		if test.got != test.want {
			t.Errorf("%s is %v, want %v", name, test.got, test.want)
		}
	}
	if r.OutputTokensPerSecond() != 10 || r.MeanInFlight() != 4 || r.Estimated != 40 {
		t.Errorf("got %v tokens/s, %v in flight, %d estimated", r.OutputTokensPerSecond(), r.MeanInFlight(), r.Estimated)
	}
}

// An open loop sends at its rate, however slow the answers are.
func TestOpenLoop(t *testing.T) {
	t.Parallel()
	r := simulate(t, Options{Concurrency: 1000, Rate: 10, Duration: 100 * time.Second, Seed: 7}, func(int) []time.Duration { return []time.Duration{5 * time.Second} })
	if r.Succeeded < 900 || r.Succeeded > 1100 {
		t.Errorf("sent %d requests in 100 s, want about 1000", r.Succeeded)
	}
	if mean := r.Latency.Mean(); mean != 5*time.Second || r.Waited != 0 || r.SendDelay.Max() != 0 {
		t.Errorf("latency %v, %d waited, delay %v", mean, r.Waited, r.SendDelay.Max())
	}
	if r.MeanInFlight() < 40 || r.MeanInFlight() > 60 {
		t.Errorf("%v in flight on average, want about 50", r.MeanInFlight())
	}
}

// The arrivals of a Poisson process vary as much as its mean: the same number of requests in each second would be another load.
func TestArrivalsArePoisson(t *testing.T) {
	t.Parallel()
	const seconds = 400
	r := simulate(t, Options{Concurrency: 1000, Rate: 20, Duration: seconds * time.Second, Seed: 3}, func(int) []time.Duration { return []time.Duration{time.Millisecond} })
	var sum, squares float64
	cells := 0
	for _, p := range r.Timeline(maxCells) {
		n := float64(p.Requests) / p.Width.Seconds()
		sum, squares, cells = sum+n, squares+n*n, cells+1
	}
	mean := sum / float64(cells)
	variance := (squares/float64(cells) - mean*mean) * r.Timeline(maxCells)[0].Width.Seconds()
	if mean < 19 || mean > 21 || variance < 15 || variance > 26 {
		t.Errorf("mean %.1f and variance %.1f in a second, want 20 each", mean, variance)
	}
}

// When the server stops for a while, the requests that should have been sent meanwhile count the whole wait: no coordinated omission.
func TestNoCoordinatedOmission(t *testing.T) {
	t.Parallel()
	times := func(n int) []time.Duration {
		if n == 10 {
			return []time.Duration{100 * time.Second}
		}
		return []time.Duration{time.Millisecond}
	}
	open := simulate(t, Options{Concurrency: 1, Rate: 1, Requests: 200, Seed: 1}, times)
	closed := simulate(t, Options{Concurrency: 1, Requests: 200}, times)
	if p := open.Latency.Percentile(75); p < 10*time.Second {
		t.Errorf("p75 of an open loop is %v: the stop of 100 s is not in it", p)
	}
	if p := closed.Latency.Percentile(95); p > time.Second {
		t.Errorf("p95 of a closed loop is %v", p)
	}
	if open.Waited < 80 || !strings.Contains(strings.Join(open.Warnings(), "\n"), "limit of --concurrency") {
		t.Errorf("%d waited, warnings %q", open.Waited, open.Warnings())
	}
	if open.SendDelay.Max() != 0 {
		t.Errorf("the waits count as delays of this machine: %v", open.SendDelay.Max())
	}
}

// Duration ends the arrivals, and the requests in flight are finished.
func TestDuration(t *testing.T) {
	t.Parallel()
	r := simulate(t, Options{Concurrency: 1, Duration: 10 * time.Second}, func(int) []time.Duration { return []time.Duration{4 * time.Second} })
	if r.Succeeded != 3 || r.Elapsed != 12*time.Second {
		t.Errorf("%d answers in %v", r.Succeeded, r.Elapsed)
	}
}

// A request that takes longer than its timeout is a failure, and the run goes on.
func TestTimeout(t *testing.T) {
	t.Parallel()
	r := simulate(t, Options{Concurrency: 1, Requests: 3, Timeout: time.Minute}, func(n int) []time.Duration { return []time.Duration{time.Duration(n) * 25 * time.Second} })
	if r.Succeeded != 2 || r.Failed != 1 || r.Failures[0].Example.Class != TimedOut {
		t.Errorf("got %d answers and %+v", r.Succeeded, r.Failures)
	}
}

// A run of a day takes no more memory than one of minutes, and its timeline is complete.
func TestDayIsBounded(t *testing.T) {
	t.Parallel()
	r := simulate(t, Options{Concurrency: 2, Duration: 24 * time.Hour}, func(int) []time.Duration { return []time.Duration{10 * time.Second, 10 * time.Second} })
	if n := len(r.timeline.cells); n > maxCells {
		t.Errorf("the timeline has %d cells", n)
	}
	total, tokens := int64(0), 0.0
	for _, p := range r.Timeline(60) {
		total += p.Requests
		tokens += p.TokensPerSecond * p.Width.Seconds()
	}
	if total != int64(r.Succeeded) || r.Succeeded != 2*24*60*3 || int64(tokens+.5) != r.OutputTokens {
		t.Errorf("the timeline has %d of %d requests, %.1f of %d tokens", total, r.Succeeded, tokens, r.OutputTokens)
	}
	if n := len(r.Timeline(60)); n > 60 {
		t.Errorf("%d points", n)
	}
}

// Options that make no sense are refused.
func TestValidate(t *testing.T) {
	t.Parallel()
	good := Options{Concurrency: 1, Requests: 1, Timeout: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"concurrency": func(o *Options) { o.Concurrency = 0 }, "rate": func(o *Options) { o.Rate = -1 }, "no end": func(o *Options) { o.Requests = 0 },
		"timeout": func(o *Options) { o.Timeout = 0 }, "warmup": func(o *Options) { o.Warmup = -1 }, "output": func(o *Options) { o.OutputTokens = -1 },
	} {
		o := good
		change(&o)
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
