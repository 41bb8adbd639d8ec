package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

//go:embed report.html
var reportHTML string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"comma": func(n int) string { return humanize.Comma(int64(n)) },
	"plus":  func(a, b float64) float64 { return a + b },
}).Parse(reportHTML))

// What the template shows.
type (
	page struct {
		Title      string
		At         string
		Servers    []serverView
		Compared   []comparison
		SLOs       []loadtest.SLO
		Charts     [][]chart // one row each, with a chart for each server
		Meanings   []latency
		Width      int
		Height     int
		Left, Top  int
		PlotWidth  int
		PlotHeight int
	}
	serverView struct {
		*loadtest.Result
		Model, Form, Load, Measured string
		Cards                       []card
		Rows                        [][]string
		Notes                       []string
	}
	card struct{ Name, Value, Note string }
)

// Name and Means are for the template.
func (l latency) Name() string  { return l.name }
func (l latency) Means() string { return l.means }

// WriteHTML writes a page that needs nothing else: no other file, no script, no request.
func (r Report) WriteHTML(to io.Writer) error {
	p := page{
		Meanings: latencies, SLOs: r.SLOs, Width: chartWidth, Height: chartHeight, Left: left, Top: top, PlotWidth: plotWidth, PlotHeight: plotHeight,
	}
	var points [][]loadtest.Point
	for _, result := range r.Results {
		p.Servers = append(p.Servers, newServerView(result))
		points = append(points, result.Timeline(intervals(result)))
	}
	if len(r.Results) > 0 {
		p.Title, p.At = r.Results[0].Options.Target.URL, r.Results[0].Start.UTC().Format("2 January 2006, 15:04 MST")
	}
	if len(r.Results) > 1 {
		p.Title += " and " + r.Results[1].Options.Target.URL
		p.Compared = compare(r.Results[0], r.Results[1])
	}
	p.Charts = append(p.Charts,
		histograms("Time to first token", "requests", r.distributions(latencies[0])...),
		histograms("Inter-token latency", "pairs of events", r.distributions(latencies[1])...),
		histograms("Request latency", "requests", r.distributions(latencies[3])...),
		timelines("Throughput over time", "tokens/s", []series{{"output tokens", "p50", func(p loadtest.Point) (float64, bool) { return p.TokensPerSecond, true }}}, points))
	for _, over := range []struct {
		title string
		of    func(loadtest.Point) *loadtest.Distribution
	}{
		{"Time to first token over time", func(p loadtest.Point) *loadtest.Distribution { return p.FirstToken }},
		{"Request latency over time", func(p loadtest.Point) *loadtest.Distribution { return p.Latency }},
	} {
		name, in := unit(longestOf(points, over.of))
		p.Charts = append(p.Charts, timelines(over.title, name, percentileSeries(over.of, in), points))
	}
	if len(r.Results) > 1 {
		for _, charts := range p.Charts {
			for i := range charts {
				charts[i].Server = r.Results[i].Options.Target.URL
			}
		}
	}
	return reportPage.Execute(to, p)
}

// intervals returns how many intervals a timeline shows: enough requests must have begun in each to make a percentile.
func intervals(r *loadtest.Result) int {
	const least, most, requests = 12, 60, 5
	return min(max(r.Succeeded/requests, least), most)
}

// distributions returns a duration of each server.
func (r Report) distributions(l latency) (all []*loadtest.Distribution) {
	for _, result := range r.Results {
		all = append(all, l.of(result))
	}
	return all
}

func newServerView(r *loadtest.Result) serverView {
	o := r.Options
	v := serverView{Result: r, Model: loadtest.Printable(o.Target.Model), Form: form(o), Load: load(o), Measured: measured(o), Notes: r.Warnings()}
	failed := "none"
	if r.Failed > 0 {
		failed = fmt.Sprintf("%s (%.3g%%)", humanize.Comma(int64(r.Failed)), 100*r.ErrorRate())
	}
	v.Cards = []card{
		{"Output tokens", digits(r.OutputTokensPerSecond()) + "/s", fmt.Sprintf("%s an answer, %s", digits(perAnswer(r.OutputTokens, r)), counted(r))},
		{"Requests", digits(r.RequestsPerSecond()) + "/s", fmt.Sprintf("%s in %s", humanize.Comma(int64(r.Succeeded)), duration(r.Elapsed))},
		{"Time to first token", percentile(r.FirstToken, 50), "median; p95 " + percentile(r.FirstToken, 95)},
		{"Inter-token latency", percentile(r.InterToken, 50), "median; p95 " + percentile(r.InterToken, 95)},
		{"Request latency", percentile(r.Latency, 50), "median; p95 " + percentile(r.Latency, 95)},
		{"Failed", failed, fmt.Sprintf("%s in flight on average", digits(r.MeanInFlight()))},
	}
	for _, l := range latencies {
		if d := l.of(r); d.Count() > 0 {
			row := []string{l.name, duration(d.Mean())}
			for _, p := range percentiles {
				row = append(row, duration(d.Percentile(p)))
			}
			v.Rows = append(v.Rows, append(row, duration(d.Max())))
		}
	}
	return v
}

// percentile formats a percentile, or a dash if nothing was measured.
func percentile(d *loadtest.Distribution, p float64) string {
	if d.Count() == 0 {
		return "–"
	}
	return duration(d.Percentile(p).Round(time.Microsecond))
}
