package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A report is the whole run, as it goes to the results file.
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
			s.Figures[i].Ratio = nil // a bar is of llm_proxy's own figure here, and ratios of nearly nothing mean nothing
		}
	}
	for i := direct; i < sides; i++ {
		s.Measured[i.String()] = samples[i]
	}
	return s
}

const row = "  %-29s %10s %14s %10s   %-20s %s\n"

func printHead(w io.Writer, r *report) {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s; medians of %d paired passes; ratio is llm_proxy ÷ reverse_proxy (min–max of the pairs)\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Passes)
	if r.Noise {
		fmt.Fprintln(w, "-noise: the column llm_proxy is reverse_proxy too; what its ratios differ from 1 by is noise")
	}
	fmt.Fprintf(w, "\n"+row, "", "direct", "reverse_proxy", "llm_proxy", "ratio", "bar")
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
		fmt.Fprintf(w, row, label(o.Figure), cells[direct], cells[baseline], cells[ours], o.ratio(), o.bar())
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

// printBars prints every bar again, all in one place.
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
			fmt.Fprintf(w, "  %-14s %-26s %6s  %s\n", s.Name, label(o.Figure), value, o.bar())
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
