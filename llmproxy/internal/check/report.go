package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/tuning"
)

// A Report is the result of a check.
type Report struct {
	Summary  Summary   `json:"summary"`
	Findings []Finding `json:"findings"`
	// Tuning has a plan for each model of each local upstream, if it was asked for.
	Tuning []tuning.Plan `json:"tuning,omitempty"`
}

// A Summary is what was checked, and how many findings there are of each severity.
type Summary struct {
	Upstreams int `json:"upstreams"`
	Replicas  int `json:"replicas"`
	Models    int `json:"models"`
	Errors    int `json:"errors"`
	Warnings  int `json:"warnings"`
	Notes     int `json:"notes"`
}

// NewReport returns the report of findings about a configuration.
func NewReport(c *Config, findings []Finding) *Report {
	r := &Report{Findings: append([]Finding{}, findings...)} // "[]" without any
	for _, server := range c.Servers {
		for _, site := range server.Sites {
			r.Summary.Models += len(site.Models)
			for _, u := range site.Upstreams {
				if !u.Absent {
					r.Summary.Upstreams++
					r.Summary.Replicas += len(u.Replicas)
				}
			}
		}
	}
	for _, f := range findings {
		switch f.Severity {
		case Error:
			r.Summary.Errors++
		case Warning:
			r.Summary.Warnings++
		case Note:
			r.Summary.Notes++
		}
	}
	return r
}

// Worst returns how many findings are at least as bad as a severity.
func (r *Report) Worst(least Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity.AtLeast(least) {
			n++
		}
	}
	return n
}

// WriteJSON writes the report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-8s %s", strings.ToUpper(string(f.Severity)), f.Part)
		if f.Line != "" {
			fmt.Fprintf(&b, " (%s)", f.Line)
		}
		fmt.Fprintf(&b, " [%s]\n", f.Check)
		wrap(&b, "         ", f.Problem)
		wrap(&b, "       → ", f.Fix)
		b.WriteByte('\n')
	}
	for _, p := range r.Tuning {
		fmt.Fprintf(&b, "%-8s %s\n", "TUNING", p.Target)
		for _, row := range p.Rows() {
			wrap(&b, fmt.Sprintf("         %-11s", row[0]), row[1])
		}
		b.WriteByte('\n')
	}
	s := r.Summary
	fmt.Fprintf(&b, "Checked %s with %s, and %s: %s, %s, %s.\n", count(s.Upstreams, "upstream"), count(s.Replicas, "address"), count(s.Models, "model"),
		count(s.Errors, "error"), count(s.Warnings, "warning"), count(s.Notes, "note"))
	_, err := io.WriteString(w, plain(b.String()))
	return err
}

// width is that of a line of text, in characters.
const width = 110

// wrap writes a paragraph. Its first line begins with lead, and the others are indented as far.
func wrap(b *strings.Builder, lead, text string) {
	at := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
			b.WriteString(lead)
			at = len([]rune(lead))
		case at+1+n > width:
			indent := strings.Repeat(" ", len([]rune(lead)))
			b.WriteString("\n" + indent)
			at = len(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

// count writes a number of things.
func count(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "s"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// plain replaces what could control a terminal: names of models come from servers.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
}
