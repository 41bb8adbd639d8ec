package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/loadtest"
)

const (
	textBins = 12
	barWidth = 40
)

// WriteText writes a report for a terminal.
func (r Report) WriteText(to io.Writer) error {
	var b strings.Builder
	for i, result := range r.Results {
		if i > 0 {
			b.WriteByte('\n')
		}
		writeResult(&b, result)
	}
	if len(r.Results) > 1 {
		b.WriteString("\nComparison\n")
		writeComparison(&b, r.Results[0], r.Results[1])
	}
	if len(r.SLOs) > 0 {
		b.WriteString("\nObjectives\n")
		table := columns(&b)
		for _, s := range r.SLOs {
			verdict := "met"
			if !s.Met {
				verdict = "MISSED"
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", s.Text, s.Got, verdict)
		}
		table.Flush()
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func columns(b *strings.Builder) *tabwriter.Writer { return tabwriter.NewWriter(b, 0, 0, 2, ' ', 0) }

func writeResult(b *strings.Builder, r *loadtest.Result) {
	o := r.Options
	fmt.Fprintf(b, "%s · model %s · %s\n%s · took %s\n\n", o.Target.URL, loadtest.Printable(o.Target.Model), form(o), load(o), duration(r.Elapsed))

	table := columns(b)
	fmt.Fprintf(table, "Requests\t%s succeeded, %s failed\t%s/s\t%s in flight on average\n",
		humanize.Comma(int64(r.Succeeded)), humanize.Comma(int64(r.Failed)), digits(r.RequestsPerSecond()), digits(r.MeanInFlight()))
	fmt.Fprintf(table, "Output tokens\t%s\t%s/s\t%s an answer, %s\n",
		humanize.Comma(r.OutputTokens), digits(r.OutputTokensPerSecond()), digits(perAnswer(r.OutputTokens, r)), counted(r))
	if r.InputTokens > 0 {
		fmt.Fprintf(table, "Input tokens\t%s\t%s/s\t%s a prompt\n", humanize.Comma(r.InputTokens), digits(r.InputTokensPerSecond()), digits(perAnswer(r.InputTokens, r)))
	}
	table.Flush()

	writeLatencies(b, r)
	for _, l := range latencies {
		if l.name != "Time per output token" {
			writeHistogram(b, l.name, l.of(r))
		}
	}
	if len(r.Failures) > 0 {
		b.WriteString("\nErrors\n")
		table := columns(b)
		for _, f := range r.Failures {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", humanize.Comma(int64(f.Count)), f.Name, f.Example.Message)
		}
		table.Flush()
	}
	fmt.Fprintf(b, "\n%s\n", measured(o))
	for _, warning := range r.Warnings() {
		fmt.Fprintf(b, "Warning: %s\n", warning)
	}
}

func writeLatencies(b *strings.Builder, r *loadtest.Result) {
	rows := [][]string{{"", "mean", "p50", "p90", "p95", "p99", "max"}}
	for _, l := range latencies {
		d := l.of(r)
		if d.Count() == 0 {
			continue
		}
		row := []string{l.name, duration(d.Mean())}
		for _, p := range percentiles {
			row = append(row, duration(d.Percentile(p)))
		}
		rows = append(rows, append(row, duration(d.Max())))
	}
	if len(rows) == 1 {
		return
	}
	b.WriteByte('\n')
	for _, row := range rows {
		fmt.Fprintf(b, "%-21s", row[0])
		for _, cell := range row[1:] {
			fmt.Fprintf(b, " %9s", cell)
		}
		b.WriteByte('\n')
	}
}

func writeHistogram(b *strings.Builder, name string, d *loadtest.Distribution) {
	if d.Count() == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", name)
	bins := d.Bins(textBins)
	most := int64(0)
	for _, bin := range bins {
		most = max(most, bin.Count)
	}
	for _, bin := range bins {
		to := duration(bin.To)
		if bin.Last {
			to = "…"
		}
		fmt.Fprintf(b, "  %9s – %-9s %-*s %s\n", duration(bin.From), to, barWidth, bar(float64(bin.Count)/float64(most), barWidth), humanize.Comma(bin.Count))
	}
}

// writeComparison writes the figures of two servers, and how the second differs from the first.
func writeComparison(b *strings.Builder, one, two *loadtest.Result) {
	rows := [][4]string{{"", one.Options.Target.URL, two.Options.Target.URL, "difference"}}
	for _, c := range compare(one, two) {
		rows = append(rows, [4]string{c.Name, c.One, c.Two, c.Difference})
	}
	table := columns(b)
	for _, row := range rows {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", row[0], row[1], row[2], row[3])
	}
	table.Flush()
}
