package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The table has a line for each gateway with as many cells as its head, and says what was not measured by an empty cell.
func TestPeerTable(t *testing.T) {
	t.Parallel()
	measured := func(f figure, theirs, peers float64) section {
		return section{Figures: outcomes([sides][]sample{baseline: {{f: theirs}}, ours: {{f: peers}}}, nil)}
	}
	rows := []row{
		{"first", []section{measured(cpuPerRequest, 100, 60), {}, measured(cpuPerEvent, 10, 9), measured(rssIdle, 50, 52)}},
		{"second", []section{{}, {}, {}, {}}},
	}
	table := peerTable(&report{}, rows)
	_, table, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d lines:\n%s", len(lines), table)
	}
	for _, line := range lines {
		if strings.Count(line, "|") != strings.Count(lines[0], "|") {
			t.Errorf("another number of cells: %s", line)
		}
	}
	if want := "| first | 60.0 µs | 0.60 |  |  |  |  | 9.00 µs | 0.90 | 52.0 MiB |  |"; lines[4] != want {
		t.Errorf("got  %s\nwant %s", lines[4], want)
	}
}

func TestReplaceTable(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# Page\n" + tableBegin + "old\n" + tableEnd + "text\n")
	if err := replaceTable(page, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if want := "# Page\n" + tableBegin + "new\n" + tableEnd + "text\n"; err != nil || string(got) != want {
		t.Errorf("%v, got %q", err, got)
	}
	write("# Page\n" + tableBegin)
	if err := replaceTable(page, "new\n"); err == nil {
		t.Error("no error for a page without the end of the table")
	}
}

// The page has the place for the table.
func TestPageHasTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), tableBegin)
	if !found || !strings.Contains(rest, tableEnd) {
		t.Error("docs/performance.md lacks the lines that enclose the table")
	}
}
