package loadtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An SLO is an objective that a run meets or misses, such as ttft_p95=2s.
type SLO struct {
	// Text is the objective as it was given.
	Text string
	// Got is the figure of the run, and Met whether it is good enough. Evaluate sets them.
	Got string
	Met bool

	name, stat string
	duration   time.Duration
	number     float64
}

// durationsOf names the durations of a result. Their objectives are upper bounds.
var durationsOf = map[string]func(*Result) *Distribution{
	"ttft":    func(r *Result) *Distribution { return r.FirstToken },
	"itl":     func(r *Result) *Distribution { return r.InterToken },
	"tpot":    func(r *Result) *Distribution { return r.PerToken },
	"latency": func(r *Result) *Distribution { return r.Latency },
}

// ratesOf names the rates of a result. Their objectives are lower bounds.
var ratesOf = map[string]func(*Result) float64{
	"requests_per_second":      (*Result).RequestsPerSecond,
	"output_tokens_per_second": (*Result).OutputTokensPerSecond,
}

var stats = []string{"mean", "p50", "p90", "p95", "p99", "max"}

const errorRate = "error_rate"

// ParseSLO parses an objective.
func ParseSLO(text string) (SLO, error) {
	name, value, _ := strings.Cut(text, "=")
	s := SLO{Text: text, name: name}
	invalid := func(want string) (SLO, error) { return s, fmt.Errorf("slo %q: %s", text, want) }
	if before, after, found := strings.Cut(name, "_"); found && durationsOf[before] != nil && slices.Contains(stats, after) {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return invalid("the value must be a duration, such as " + name + "=2s")
		}
		s.name, s.stat, s.duration = before, after, d
		return s, nil
	}
	if name != errorRate && ratesOf[name] == nil {
		return invalid("the name must be one of ttft, itl, tpot and latency with one of " + strings.Join(stats, ", ") + ", such as ttft_p95, or error_rate, requests_per_second or output_tokens_per_second")
	}
	digits, percent := strings.CutSuffix(value, "%")
	n, err := strconv.ParseFloat(digits, 64)
	if percent {
		n /= 100
	}
	switch {
	case name == errorRate && (err != nil || !(n >= 0 && n <= 1)):
		return invalid("the value must be a share, such as error_rate=1%")
	case name != errorRate && (err != nil || percent || !(n > 0)):
		return invalid("the value must be a number greater than 0, such as " + name + "=100")
	}
	s.number = n
	return s, nil
}

// Evaluate returns the objective with what a run did. A run without any answer misses every objective.
func (s SLO) Evaluate(r *Result) SLO {
	if s.name == errorRate {
		s.Got, s.Met = fmt.Sprintf("%.2f%%", 100*r.ErrorRate()), r.Succeeded > 0 && r.ErrorRate() <= s.number
		return s
	}
	if rate := ratesOf[s.name]; rate != nil {
		s.Got, s.Met = fmt.Sprintf("%.2f", rate(r)), rate(r) >= s.number
		return s
	}
	d := durationsOf[s.name](r)
	if d.Count() == 0 {
		s.Got = "not measured"
		return s
	}
	got := d.stat(s.stat)
	s.Got, s.Met = got.Round(time.Microsecond).String(), got <= s.duration
	return s
}

// stat returns the value of one of the stats.
func (d *Distribution) stat(name string) time.Duration {
	switch name {
	case "mean":
		return d.Mean()
	case "max":
		return d.Max()
	}
	p, _ := strconv.ParseFloat(name[1:], 64) // "p95"
	return d.Percentile(p)
}
