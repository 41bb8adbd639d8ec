package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// peerStreams is how many streams are open when their memory is measured: fewer than for llm_proxy alone, because not every gateway
// relays a thousand events a second.
const peerStreams = 100

// peerScenarios are the loads of the comparison with other gateways.
func peerScenarios() []scenario {
	return []scenario{
		whole("1k-16", kilobyte, 16),
		whole("100k-16", 100*kilobyte, 16),
		{
			name: "stream-40ms", title: "25 streams of 200 events, one every 40 ms",
			connections: 25, size: kilobyte, stream: true,
			upstream: upstream{tokens: 200, interval: 40 * time.Millisecond}, measure: pacedStreams,
		},
		{
			name: "stream-memory", title: fmt.Sprintf("memory of %d open streams, an event a second", peerStreams),
			connections: peerStreams, size: kilobyte, stream: true, proxiesOnly: true,
			upstream: upstream{tokens: 6, interval: time.Second}, measure: streamMemory,
		},
	}
}

// A row is one gateway's line of the table, by scenario.
type row struct {
	name     string
	sections []section
}

// comparePeers measures llm_proxy and the other gateways in the same way, each in turn with reverse_proxy, and writes the table.
func (b *bench) comparePeers(ctx context.Context, r *report) error {
	peers, err := installedPeers(b.peers)
	if err != nil {
		return err
	}
	own := func(sc scenario) scenario { return sc }
	rows := []row{{name: "`llm_proxy`, one upstream"}, {name: "`llm_proxy`, everything on"}}
	for i, variant := range []func(scenario) scenario{own, withEverything} {
		if err := b.fill(ctx, &rows[i], variant); err != nil {
			return err
		}
	}
	for i := range peers {
		next := row{name: peers[i].name + " " + peers[i].version}
		b.servers.peer = &peers[i]
		if err := b.fill(ctx, &next, own); ctx.Err() != nil {
			return err
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "not measured further:", err) // what was measured stays in the table
		}
		rows = append(rows, next)
	}
	for _, row := range rows {
		r.Scenarios = append(r.Scenarios, row.sections...)
	}
	r.Seconds = time.Since(r.Begun).Seconds()
	if err := r.write(b.out); err != nil {
		return err
	}
	table := peerTable(r, rows)
	fmt.Print("\n", table)
	if b.page == "" {
		return nil
	}
	return replaceTable(b.page, table)
}

func (b *bench) fill(ctx context.Context, to *row, variant func(scenario) scenario) error {
	for _, sc := range peerScenarios() {
		sc = variant(sc)
		samples, err := b.run(ctx, &sc)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", to.name, sc.name, err)
		}
		s := newSection(&sc, samples)
		s.Name = to.name + ": " + sc.name
		s.print(os.Stdout)
		to.sections = append(to.sections, s)
	}
	return nil
}

// peerTable returns the results as Markdown.
func peerTable(r *report, rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with %s, %d cores, Linux %s, %s. Medians of %d paired passes.\n\n",
		r.Begun.Format("2 January 2006"), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Passes)
	b.WriteString("| Gateway | 1 KB: CPU a request | × | requests/s | 100 KB: CPU a request | × | requests/s | Stream: CPU an event | × | Idle memory | Memory of an open stream |\n")
	b.WriteString("| --- | ---" + strings.Repeat(": | ---", 9) + ": |\n")
	line := func(name string, of side, with []section) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, cell := range []struct {
			section int
			figure  figure
			unit    string
			ratio   bool
		}{
			{0, cpuPerRequest, " µs", true}, {0, requestRate, "", false},
			{1, cpuPerRequest, " µs", true}, {1, requestRate, "", false},
			{2, cpuPerEvent, " µs", true}, {3, rssIdle, " MiB", false}, {3, rssPerStream, " KiB", false},
		} {
			value, ratio := "", ""
			if cell.section >= len(with) {
				with = append(with, make([]section, cell.section+1-len(with))...) // not measured
			}
			for _, o := range with[cell.section].Figures {
				if v, ok := o.Median[of.String()]; ok && o.Figure == cell.figure {
					value = short(v) + cell.unit
					if of == ours && o.Ratio != nil {
						ratio = short(o.Ratio.Median)
					}
				}
			}
			if fmt.Fprintf(&b, " %s |", value); cell.ratio {
				fmt.Fprintf(&b, " %s |", ratio)
			}
		}
		b.WriteString("\n")
	}
	line("the upstream itself", direct, rows[0].sections)
	line("Caddy's `reverse_proxy`", baseline, rows[0].sections)
	for _, row := range rows {
		line(row.name, ours, row.sections)
	}
	return b.String()
}

// These lines of a page enclose the table.
const tableBegin, tableEnd = "<!-- make bench-peers: begin -->\n", "<!-- make bench-peers: end -->\n"

// replaceTable replaces the table of a page.
func replaceTable(page, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	before, rest, found := bytes.Cut(text, []byte(tableBegin))
	_, after, ended := bytes.Cut(rest, []byte(tableEnd))
	if !found || !ended {
		return fmt.Errorf("writing the table: %s lacks the lines that enclose it", page)
	}
	return os.WriteFile(page, []byte(string(before)+tableBegin+table+tableEnd+string(after)), 0o644)
}
