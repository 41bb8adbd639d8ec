package loadtest

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// Objectives are parsed, and met or missed by the right figure.
func TestSLO(t *testing.T) {
	t.Parallel()
	r := newRecorder(t0, true)
	for i := range 100 {
		first := time.Duration(i+1) * 10 * time.Millisecond
		at := func(d time.Duration) time.Time { return t0.Add(d) }
		r.begin(t0, t0, false)
		r.end(outcome{intended: t0, sent: t0, events: []time.Time{at(first), at(first + 50*time.Millisecond)}, ended: at(2 * time.Second), usage: tokens.Usage{Output: 11}})
	}
	r.begin(t0, t0, false)
	r.end(outcome{intended: t0, sent: t0, ended: t0, failure: &Failure{Class: TimedOut}})
	result := r.result(Options{}, 0, false)
	for text, met := range map[string]bool{
		"ttft_p95=960ms": true, "ttft_p95=940ms": false, "ttft_mean=505ms": true, "ttft_mean=504ms": false, "ttft_max=1s": true, "itl_p50=50ms": true, "itl_p50=49ms": false,
		"tpot_p99=5.1ms": true, "tpot_p99=4.9ms": false, "latency_p90=2s": true, "latency_p90=1.9s": false, "error_rate=1%": true, "error_rate=0.009": false,
		"requests_per_second=50": true, "requests_per_second=51": false, "output_tokens_per_second=550": true, "output_tokens_per_second=551": false,
	} {
		s, err := ParseSLO(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := s.Evaluate(result); got.Met != met || got.Got == "" {
			t.Errorf("%s: got %+v", text, got)
		}
		empty := newRecorder(t0, true).result(Options{}, 0, false)
		if got := s.Evaluate(empty); got.Met {
			t.Errorf("%s is met by a run without answers", text)
		}
	}
	for _, text := range []string{"", "ttft", "ttft_p95", "ttft_p95=", "ttft_p95=2", "ttft_p95=-1s", "ttft_p42=1s", "error_rate=2", "error_rate=x", "error_rate=-1%", "error_rate=NaN", "requests_per_second=0", "requests_per_second=5%", "requests_per_second=NaN", "made_up=1"} {
		if _, err := ParseSLO(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func FuzzSLO(f *testing.F) {
	f.Add("ttft_p95=2s")
	f.Add("error_rate=1%")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSLO(text); err == nil {
			s.Evaluate(newRecorder(t0, true).result(Options{}, 0, false))
		}
	})
}

// Bins are round, cover all values, and do not let one outlier squeeze the others.
func TestBins(t *testing.T) {
	t.Parallel()
	d := newDistribution(3)
	for i := range 1000 {
		d.add(100*time.Millisecond + time.Duration(i)*100*time.Microsecond)
	}
	d.add(time.Minute)
	bins := d.Bins(12)
	total := int64(0)
	for i, b := range bins {
		total += b.Count
		if b.To-b.From != 10*time.Millisecond || i > 0 && b.From != bins[i-1].To {
			t.Errorf("bin %d is from %v to %v", i, b.From, b.To)
		}
	}
	if total != 1001 || len(bins) > 12 || !bins[len(bins)-1].Last || bins[0].From != 100*time.Millisecond {
		t.Errorf("%d values in %+v", total, bins)
	}

	narrow, wide, none := newDistribution(3), newDistribution(3), newDistribution(3)
	for range 10 {
		narrow.add(500 * time.Millisecond)
		wide.add(time.Second)
	}
	wide.add(0)
	if bins := narrow.Bins(12); len(bins) != 1 || bins[0].Count != 10 {
		t.Errorf("equal values are in %+v", bins)
	}
	both := Bins(12, narrow, wide, none)
	if len(both[0]) != len(both[1]) || both[0][0].From != both[1][0].From {
		t.Error("two distributions have different bins")
	}
	if none.Bins(12) != nil || none.Mean() != 0 || none.Percentile(99) != 0 {
		t.Error("an empty distribution has values")
	}
	zero := newDistribution(3)
	zero.add(0)
	if bins := zero.Bins(12); len(bins) != 1 || bins[0].Count != 1 {
		t.Errorf("zero is in %+v", bins)
	}
}

// Percentiles are exact to three digits, and the mean and the largest value are exact.
func TestDistribution(t *testing.T) {
	t.Parallel()
	d := newDistribution(3)
	for i := 1; i <= 10_000; i++ {
		d.add(time.Duration(i) * time.Millisecond)
	}
	if d.Mean() != 5000500*time.Microsecond || d.Max() != 10*time.Second || d.Count() != 10_000 {
		t.Errorf("mean %v, max %v, count %d", d.Mean(), d.Max(), d.Count())
	}
	for p, want := range map[float64]time.Duration{50: 5 * time.Second, 99: 9900 * time.Millisecond, 100: 10 * time.Second} {
		if got := d.Percentile(p); got < want*999/1000 || got > want*1001/1000 {
			t.Errorf("p%g is %v, want %v", p, got, want)
		}
	}
	d.add(-time.Second)
	d.add(1000 * time.Hour)
	if d.Max() != longest {
		t.Errorf("max %v", d.Max())
	}
}

// Figures that may mislead have a warning, with what to do.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for words, change := range map[string]func(*Result){
		"":                           func(*Result) {},
		"This machine was a limit":   func(r *Result) { r.SchedulerLag = 20 * time.Millisecond },
		"sent up to 50ms late":       func(r *Result) { r.SendDelay.add(50 * time.Millisecond) },
		"limit of --concurrency":     func(r *Result) { r.Waited = 3 },
		"output tokens of 3 answers": func(r *Result) { r.Estimated = 3 },
		"3 answers came from":        func(r *Result) { r.FromCache = 3 },
		"90% of the input tokens":    func(r *Result) { r.InputTokens, r.CachedTokens = 100, 90 },
	} {
		r := newRecorder(t0, true).result(Options{}, 0, false)
		r.FirstToken.add(200 * time.Millisecond) // 9 ms are a small part of it
		r.SendDelay.add(9 * time.Millisecond)
		change(r)
		got := r.Warnings()
		if words == "" && len(got) != 0 || words != "" && (len(got) != 1 || !strings.Contains(got[0], words)) {
			t.Errorf("%q: got %q", words, got)
		}
	}
}

// The lag of goroutines is that of the time since the start only.
func TestSchedulerLag(t *testing.T) {
	t.Parallel()
	lag := startSchedulerLag()
	if lag.before == nil {
		t.Fatal("the runtime does not say how long goroutines wait")
	}
	for i := range lag.before {
		lag.before[i] = 0
	}
	if since := lag.p99(); since < 0 || since > time.Minute {
		t.Errorf("got %v", since)
	}
}
