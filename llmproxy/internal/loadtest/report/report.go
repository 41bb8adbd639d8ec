// Package report presents the results of load tests: as text for a terminal, as JSON, and as an HTML page that needs nothing
// else. It measures nothing: package loadtest does, on whose results it stands.
package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

// A Report has the results of one server, or of two to be compared, and the objectives of the first one.
type Report struct {
	Results []*loadtest.Result
	SLOs    []loadtest.SLO
}

// percentiles are those that every presentation shows.
var percentiles = []float64{50, 90, 95, 99}

// A latency is one of the durations that are measured.
type latency struct {
	name, means string
	of          func(*loadtest.Result) *loadtest.Distribution
}

var latencies = []latency{
	{"Time to first token", "from the intended start of a request to its first event with content", func(r *loadtest.Result) *loadtest.Distribution { return r.FirstToken }},
	{"Inter-token latency", "between two neighboring events with content", func(r *loadtest.Result) *loadtest.Distribution { return r.InterToken }},
	{"Time per output token", "from the first to the last event with content, divided by the output tokens but one", func(r *loadtest.Result) *loadtest.Distribution { return r.PerToken }},
	{"Request latency", "from the intended start of a request to the end of its answer", func(r *loadtest.Result) *loadtest.Distribution { return r.Latency }},
}

// duration formats a duration with three digits.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d >= 999500*time.Microsecond: // "1,000 ms" would have four
		return digits(d.Seconds()) + " s"
	default:
		return digits(float64(d)/float64(time.Millisecond)) + " ms"
	}
}

// digits formats a number with three digits, or as many as it has before its point.
func digits(n float64) string {
	if math.Abs(n) >= 99.95 {
		return humanize.Comma(int64(math.Round(n)))
	}
	return fmt.Sprintf("%.3g", n)
}

// load describes how the requests were sent.
func load(o loadtest.Options) string {
	if o.Rate > 0 {
		return fmt.Sprintf("open loop: %s requests/s on average (Poisson), at most %d at once", digits(o.Rate), o.Concurrency)
	}
	return fmt.Sprintf("closed loop: %d at once", o.Concurrency)
}

// form describes what was sent.
func form(o loadtest.Options) string {
	s := map[loadtest.Dialect]string{loadtest.OpenAI: "OpenAI's API", loadtest.Anthropic: "Anthropic's API", loadtest.Ollama: "Ollama's API"}[o.Target.Dialect]
	if o.Stream {
		return s + ", streams"
	}
	return s + ", no streams"
}

// measured says from when latencies count.
func measured(o loadtest.Options) string {
	if o.Rate > 0 {
		return "Latencies count from the time at which a request should have been sent, so a slow server cannot hide its delays (no coordinated omission)."
	}
	return "Closed loop: the next request is sent when an answer ends, so a slow server gets fewer requests (coordinated omission). Use --rate to see the latencies of clients that do not wait for each other."
}

// counted says where the number of output tokens is from.
func counted(r *loadtest.Result) string {
	switch r.Estimated {
	case 0:
		return "counted by the server"
	case r.Succeeded:
		return "estimated"
	}
	return "partly estimated"
}

// perAnswer returns the mean of a total, or 0 without answers.
func perAnswer(total int64, r *loadtest.Result) float64 {
	if r.Succeeded == 0 {
		return 0
	}
	return float64(total) / float64(r.Succeeded)
}

// bar draws a share of a width, to an eighth of a character.
func bar(share float64, width int) string {
	eighths := int(math.Round(share * float64(width) * 8))
	if share > 0 {
		eighths = max(eighths, 1)
	}
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}
