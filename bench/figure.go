package main

import (
	"fmt"
	"slices"
)

// A figure is one thing that passes measure. Smaller is better, but for rates.
type figure string

const (
	cpuPerRequest figure = "cpu_per_request_us"
	cpuPerEvent   figure = "cpu_per_event_us"
	hitShare      figure = "cpu_of_relayed"
	requestRate   figure = "requests_per_second"
	eventRate     figure = "events_per_second"
	latency50     figure = "latency_p50_ms"
	latency99     figure = "latency_p99_ms"
	first50       figure = "first_token_p50_ms"
	first99       figure = "first_token_p99_ms"
	gap50         figure = "event_gap_p50_ms"
	gap99         figure = "event_gap_p99_ms"
	rssNow        figure = "rss_mib"
	rssIdle       figure = "rss_idle_mib"
	rssPerStream  figure = "rss_per_stream_kib"
	streamsHeld   figure = "streams_held"
	bodyCopies    figure = "body_copies"
	bodyCopies10  figure = "body_copies_after_10"
)

// labels is how the figures are printed, in this order.
var labels = []struct {
	figure figure
	label  string
}{
	{cpuPerRequest, "CPU per request, µs"},
	{cpuPerEvent, "CPU per event, µs"},
	{hitShare, "CPU ÷ that of a relayed one"},
	{requestRate, "requests/s"},
	{eventRate, "events/s"},
	{latency50, "latency p50, ms"},
	{latency99, "latency p99, ms"},
	{first50, "first token p50, ms"},
	{first99, "first token p99, ms"},
	{gap50, "gap between events p50, ms"},
	{gap99, "gap between events p99, ms"},
	{rssNow, "RSS, MiB"},
	{rssIdle, "RSS of the idle process, MiB"},
	{rssPerStream, "RSS per open stream, KiB"},
	{streamsHeld, "streams held"},
	{bodyCopies, "peak RSS growth, copies"},
	{bodyCopies10, "the same after ten, copies"},
}

// An outcome is one figure of one scenario over all passes.
type outcome struct {
	Figure figure             `json:"figure"`
	Median map[string]float64 `json:"median"` // by side
	Ratio  *spanned           `json:"ratio,omitempty"`
	Limit  float64            `json:"limit,omitempty"`
	Of     string             `json:"limit_of,omitempty"` // "ratio" or "llm_proxy"
	Met    *bool              `json:"met,omitempty"`
}

// spanned is the median of the ratios llm_proxy ÷ reverse_proxy, each of two passes that ran one after the other.
type spanned struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// outcomes sums up the passes: samples[side][pass].
func outcomes(samples [sides][]sample, bars []bar) []outcome {
	var list []outcome
	for _, l := range labels {
		o := outcome{Figure: l.figure, Median: map[string]float64{}}
		for s := direct; s < sides; s++ {
			var values []float64
			for _, pass := range samples[s] {
				if v, ok := pass[l.figure]; ok {
					values = append(values, v)
				}
			}
			if len(values) > 0 {
				o.Median[s.String()] = median(values)
			}
		}
		if len(o.Median) == 0 {
			continue
		}
		o.Ratio = paired(samples[ours], samples[baseline], l.figure)
		for _, b := range bars {
			if b.figure == l.figure {
				o.hold(b)
			}
		}
		list = append(list, o)
	}
	return list
}

func paired(a, b []sample, f figure) *spanned {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i][f] > 0 {
			ratios = append(ratios, a[i][f]/b[i][f])
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	return &spanned{median(ratios), slices.Min(ratios), slices.Max(ratios)}
}

// hold compares with a bar. Where there is nothing to compare, the bar is not met.
func (o *outcome) hold(b bar) {
	value, found := o.Median[ours.String()]
	o.Limit, o.Of = b.limit, ours.String()
	if !b.absolute {
		o.Of, found = "ratio", o.Ratio != nil
		if found {
			value = o.Ratio.Median
		}
	}
	met := found && value <= b.limit
	o.Met = &met
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// short prints three figures or so.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
