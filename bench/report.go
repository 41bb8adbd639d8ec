package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A figure is one quantity that passes measure, by its name in the results file. Smaller is better, except for rates.
type figure string

const (
	cpuPerRequest   figure = "cpu_per_request_us"
	cpuPerEvent     figure = "cpu_per_event_us"
	hitShare        figure = "cpu_of_relayed"
	translatedShare figure = "cpu_of_untranslated"
	requestRate     figure = "requests_per_second"
	eventRate       figure = "events_per_second"
	latency50       figure = "latency_p50_ms"
	latency99       figure = "latency_p99_ms"
	first50         figure = "first_token_p50_ms"
	first99         figure = "first_token_p99_ms"
	gap50           figure = "event_gap_p50_ms"
	gap99           figure = "event_gap_p99_ms"
	rssNow          figure = "rss_mib"
	rssIdle         figure = "rss_idle_mib"
	rssPerStream    figure = "rss_per_stream_kib"
	streamsHeld     figure = "streams_held"
	rssUsed         figure = "rss_used_mib"
	rssScraped      figure = "rss_scraped_mib"
	peakGrowth      figure = "peak_rss_growth_mib"
	bodyCopies      figure = "body_copies"
	bodyCopies10    figure = "body_copies_after_10"
)

// labels are the names of the figures in print, in this order.
var labels = []struct {
	figure figure
	label  string
}{
	{cpuPerRequest, "CPU per request, µs"},
	{cpuPerEvent, "CPU per event, µs"},
	{hitShare, "CPU ÷ that of a relayed one"},
	{translatedShare, "CPU ÷ that of an untranslated one"},
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
	{rssUsed, "RSS after use, MiB"},
	{rssScraped, "the same after a scrape, MiB"},
	{peakGrowth, "peak RSS growth, MiB"},
	{bodyCopies, "peak RSS growth, copies"},
	{bodyCopies10, "the same after ten, copies"},
}

// An outcome is one figure of one scenario over all passes.
type outcome struct {
	Figure figure             `json:"figure"`
	Median map[string]float64 `json:"median"` // by side
	Ratio  *ratios            `json:"ratio,omitempty"`
	Limit  float64            `json:"limit,omitempty"`
	Of     string             `json:"limit_of,omitempty"` // "ratio" or "llm_proxy"
	Met    *bool              `json:"met,omitempty"`
}

// ratios summarizes the ratios llm_proxy ÷ reverse_proxy, each of two passes that ran one after the other.
type ratios struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// outcomes summarizes the passes: samples[side][pass].
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

func paired(a, b []sample, f figure) *ratios {
	var values []float64
	for i := range min(len(a), len(b)) {
		if b[i][f] > 0 {
			values = append(values, a[i][f]/b[i][f])
		}
	}
	if len(values) == 0 {
		return nil
	}
	return &ratios{median(values), slices.Min(values), slices.Max(values)}
}

// hold compares the outcome with a bar. Without a value, the bar is not met.
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

// short formats a number with about three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// A report is the results file.
type report struct {
	Begun     time.Time `json:"begun"`
	Seconds   float64   `json:"seconds"`
	Machine   machine   `json:"machine"`
	Noise     bool      `json:"noise,omitempty"` // reverse_proxy against itself
	Passes    int       `json:"passes"`
	Scenarios []section `json:"scenarios"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// A section is one scenario's part of the report.
type section struct {
	Name     string              `json:"name"`
	Title    string              `json:"title"`
	Figures  []outcome           `json:"figures"`
	Measured map[string][]sample `json:"measured"` // by side, pass by pass
}

func newSection(sc *scenario, samples [sides][]sample) section {
	s := section{Name: sc.name, Title: sc.title, Figures: outcomes(samples, sc.bars), Measured: map[string][]sample{}}
	for i := range s.Figures {
		if sc.proxiesOnly {
			s.Figures[i].Ratio = nil // the bars are absolute here, and ratios of small differences mean nothing
		}
	}
	for i := direct; i < sides; i++ {
		s.Measured[i.String()] = samples[i]
	}
	return s
}

const lineFormat = "  %-29s %10s %14s %10s   %-20s %s\n"

func (r *report) printHead(w io.Writer) {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s; medians of %d paired passes; ratio is llm_proxy ÷ reverse_proxy (min–max of the pairs)\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Passes)
	if r.Noise {
		fmt.Fprintln(w, "-noise: the column llm_proxy is reverse_proxy too; how far its ratios are from 1 is noise")
	}
	fmt.Fprintf(w, "\n"+lineFormat, "", "direct", "reverse_proxy", "llm_proxy", "ratio", "bar")
}

func (s *section) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", s.Name, s.Title)
	for _, o := range s.Figures {
		cells := [sides]string{}
		for i := range cells {
			cells[i] = "–"
			if v, ok := o.Median[side(i).String()]; ok {
				cells[i] = short(v)
			}
		}
		fmt.Fprintf(w, lineFormat, label(o.Figure), cells[direct], cells[baseline], cells[ours], o.ratio(), o.bar())
	}
}

func label(f figure) string {
	for _, l := range labels {
		if l.figure == f {
			return l.label
		}
	}
	return string(f)
}

func (o *outcome) ratio() string {
	if o.Ratio == nil {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", o.Ratio.Median, o.Ratio.Min, o.Ratio.Max)
}

func (o *outcome) bar() string {
	if o.Met == nil {
		return ""
	}
	unit := " ×"
	if o.Of != "ratio" {
		unit = ""
	}
	verdict := "MISSED"
	if *o.Met {
		verdict = "met"
	}
	return fmt.Sprintf("≤ %g%s %s", o.Limit, unit, verdict)
}

// printBars prints all bars in one place and counts them.
func (r *report) printBars(w io.Writer) (met, of int) {
	fmt.Fprintln(w, "\nbars:")
	for _, s := range r.Scenarios {
		for _, o := range s.Figures {
			if o.Met == nil {
				continue
			}
			of++
			if *o.Met {
				met++
			}
			value := "–"
			switch {
			case o.Of == "ratio" && o.Ratio != nil:
				value = fmt.Sprintf("%.2f", o.Ratio.Median)
			case o.Of != "ratio":
				value = short(o.Median[o.Of])
			}
			fmt.Fprintf(w, "  %-18s %-26s %6s  %s\n", s.Name, label(o.Figure), value, o.bar())
		}
	}
	return met, of
}

func (r *report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func thisMachine() machine {
	m := machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version()}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(info) {
		if name, value, _ := bytes.Cut(line, []byte(":")); string(bytes.TrimSpace(name)) == "model name" {
			m.CPU = string(bytes.TrimSpace(value))
			break
		}
	}
	return m
}
