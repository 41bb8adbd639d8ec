package report

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

// The JSON of a report. Durations are seconds. docs/bench.md explains it.
type (
	jsonReport struct {
		Runs []jsonRun `json:"runs"`
		SLOs []jsonSLO `json:"slos"`
	}
	jsonRun struct {
		URL         string    `json:"url"`
		Dialect     string    `json:"dialect"`
		Model       string    `json:"model"`
		Stream      bool      `json:"stream"`
		Loop        string    `json:"loop"`
		Rate        float64   `json:"rate,omitempty"`
		Concurrency int       `json:"concurrency"`
		Start       time.Time `json:"start"`
		Seconds     float64   `json:"seconds"`
		Interrupted bool      `json:"interrupted"`
		Succeeded   int       `json:"succeeded"`
		Failed      int       `json:"failed"`
		Canceled    int       `json:"canceled"`

		InputTokens           int64   `json:"input_tokens"`
		CachedTokens          int64   `json:"cached_tokens"`
		OutputTokens          int64   `json:"output_tokens"`
		Estimated             int     `json:"answers_with_estimated_tokens"`
		FromCache             int     `json:"answers_from_cache"`
		RequestsPerSecond     float64 `json:"requests_per_second"`
		OutputTokensPerSecond float64 `json:"output_tokens_per_second"`
		MeanInFlight          float64 `json:"mean_in_flight"`
		MaxInFlight           int     `json:"max_in_flight"`

		FirstToken *jsonDistribution `json:"time_to_first_token"`
		InterToken *jsonDistribution `json:"inter_token_latency"`
		PerToken   *jsonDistribution `json:"time_per_output_token"`
		Latency    *jsonDistribution `json:"request_latency"`

		Errors   []jsonError `json:"errors"`
		Warnings []string    `json:"warnings"`
	}
	jsonDistribution struct {
		Count int64   `json:"count"`
		Mean  float64 `json:"mean"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P95   float64 `json:"p95"`
		P99   float64 `json:"p99"`
		Max   float64 `json:"max"`
	}
	jsonError struct {
		Class  string `json:"class"`
		Status int    `json:"status,omitempty"`
		Reason string `json:"reason,omitempty"`
		Count  int    `json:"count"`
		// Message is that of one of them.
		Message string `json:"message"`
	}
	jsonSLO struct {
		Objective string `json:"objective"`
		Got       string `json:"got"`
		Met       bool   `json:"met"`
	}
)

// WriteJSON writes a report for programs.
func (r Report) WriteJSON(to io.Writer) error {
	out := jsonReport{Runs: []jsonRun{}, SLOs: []jsonSLO{}}
	for _, result := range r.Results {
		out.Runs = append(out.Runs, newJSONRun(result))
	}
	for _, s := range r.SLOs {
		out.SLOs = append(out.SLOs, jsonSLO{s.Text, s.Got, s.Met})
	}
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

func newJSONRun(r *loadtest.Result) jsonRun {
	o := r.Options
	run := jsonRun{
		URL: o.Target.URL, Dialect: string(o.Target.Dialect), Model: o.Target.Model, Stream: o.Stream, Loop: "closed", Rate: o.Rate, Concurrency: o.Concurrency,
		Start: r.Start.UTC(), Seconds: seconds(r.Elapsed), Interrupted: r.Interrupted, Succeeded: r.Succeeded, Failed: r.Failed, Canceled: r.Canceled,
		InputTokens: r.InputTokens, CachedTokens: r.CachedTokens, OutputTokens: r.OutputTokens, Estimated: r.Estimated, FromCache: r.FromCache,
		RequestsPerSecond: micro(r.RequestsPerSecond()), OutputTokensPerSecond: micro(r.OutputTokensPerSecond()), MeanInFlight: micro(r.MeanInFlight()), MaxInFlight: r.MaxInFlight,
		FirstToken: newJSONDistribution(r.FirstToken), InterToken: newJSONDistribution(r.InterToken), PerToken: newJSONDistribution(r.PerToken), Latency: newJSONDistribution(r.Latency),
		Errors: []jsonError{}, Warnings: append([]string{}, r.Warnings()...),
	}
	if o.Rate > 0 {
		run.Loop = "open"
	}
	for _, f := range r.Failures {
		run.Errors = append(run.Errors, jsonError{string(f.Example.Class), f.Example.Status, f.Example.Reason, f.Count, f.Example.Message})
	}
	return run
}

// newJSONDistribution returns nil for what was not measured.
func newJSONDistribution(d *loadtest.Distribution) *jsonDistribution {
	if d.Count() == 0 {
		return nil
	}
	return &jsonDistribution{
		Count: d.Count(), Mean: seconds(d.Mean()), P50: seconds(d.Percentile(50)), P90: seconds(d.Percentile(90)), P95: seconds(d.Percentile(95)),
		P99: seconds(d.Percentile(99)), Max: seconds(d.Max()),
	}
}

func seconds(d time.Duration) float64 { return micro(d.Seconds()) }

// micro rounds to six decimals.
func micro(n float64) float64 { return math.Round(n*1e6) / 1e6 }
