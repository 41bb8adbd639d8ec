package screen

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	flag.Parse()
	time.Local = time.UTC // in which the golden files are
	os.Exit(m.Run())
}

func busy(t *testing.T) *overview.Snapshot {
	t.Helper()
	data, err := os.ReadFile("testdata/busy.json")
	if err != nil {
		t.Fatal(err)
	}
	s := new(overview.Snapshot)
	if err := json.Unmarshal(data, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func empty(*testing.T) *overview.Snapshot {
	return &overview.Snapshot{At: time.Date(2026, 3, 2, 10, 15, 30, 0, time.UTC)}
}

// many is a snapshot with more of everything than any screen shows.
func many(t *testing.T) *overview.Snapshot {
	s := busy(t)
	for i := range 40 {
		u := s.Upstreams[i%5%len(s.Upstreams)]
		u.Name = fmt.Sprintf("%s-%d", u.Name, i)
		s.Upstreams = append(s.Upstreams, u)
		s.Spend = append(s.Spend, s.Spend[0])
		s.Requests = append(s.Requests, s.Requests[i%5])
	}
	return s
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", path, diff)
	}
}

// press sends keys to a program.
func press(w *watched, keys ...tea.Key) {
	for _, k := range keys {
		w.Update(tea.KeyPressMsg(k))
	}
}

var (
	tab  = tea.Key{Code: tea.KeyTab}
	down = tea.Key{Code: tea.KeyDown}
	end  = tea.Key{Code: tea.KeyEnd}
)

func TestScreens(t *testing.T) {
	for _, tt := range []struct {
		name          string
		width, height int
		snapshot      func(*testing.T) *overview.Snapshot
		problem       error
		keys          []tea.Key
	}{
		{"busy-80x24", 80, 24, busy, nil, nil},
		{"busy-140x40", 140, 40, busy, nil, nil},
		{"busy-40x24", 40, 24, busy, nil, nil},
		{"busy-80x10", 80, 10, busy, nil, nil},
		{"empty-80x24", 80, 24, empty, nil, nil},
		{"many-80x24", 80, 24, many, nil, nil},
		{"many-140x40", 140, 40, many, nil, nil},
		{"many-upstreams-80x24", 80, 24, many, nil, []tea.Key{tab, down, down}},
		{"many-requests-end-80x24", 80, 24, many, nil, []tea.Key{tab, tab, tab, tab, end}},
		{"gone-80x10", 80, 10, busy, errors.New("no Caddy answers at localhost:2019; start it, or give the address of its admin API with --address"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &watched{picture: picture{Snapshot: empty(t)}}
			w.Update(tea.WindowSizeMsg{Width: tt.width, Height: tt.height})
			w.Update(fetched{snapshot: tt.snapshot(t)})
			if tt.problem != nil {
				w.Update(fetched{err: tt.problem})
			}
			press(w, tt.keys...)
			view := w.View()
			if w, h := lipgloss.Size(view.Content); w > tt.width || h != tt.height || !view.AltScreen {
				t.Errorf("it is %d×%d", w, h)
			}
			golden(t, tt.name, withoutSpaces(ansi.Strip(view.Content)))
		})
	}
}

// withoutSpaces removes the spaces at the end of lines, which nobody sees.
func withoutSpaces(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// Any size has a picture that fits, whatever keys were pressed.
func TestAnySizeFits(t *testing.T) {
	w := &watched{picture: picture{Snapshot: many(t)}}
	for _, width := range []int{1, 30, 59, 60, 109, 110, 200} {
		for _, height := range []int{1, 2, 3, 5, 6, 7, 8, 12, 24, 50} {
			for _, key := range []tea.Key{{}, tab, end, {Code: tea.KeyPgUp}, {Code: tea.KeyTab, Mod: tea.ModShift}} {
				press(w, key)
				w.Update(tea.WindowSizeMsg{Width: width, Height: height})
				if gotW, gotH := lipgloss.Size(w.View().Content); gotW > width || gotH != height {
					t.Fatalf("at %d×%d it is %d×%d:\n%s", width, height, gotW, gotH, ansi.Strip(w.View().Content))
				}
			}
		}
	}
}

// Without a terminal there are no colors, and no control characters of clients.
func TestText(t *testing.T) {
	for name, snapshot := range map[string]*overview.Snapshot{"busy-text": busy(t), "empty-text": empty(t), "many-text": many(t)} {
		var out bytes.Buffer
		if err := Print(&out, snapshot); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsRune(out.String(), 0x1b) {
			t.Errorf("%s: there is an escape in %q", name, out.String())
		}
		golden(t, name, out.String())
	}
}

// The picture follows the gateway until the user quits, and outlives its errors.
func TestWatch(t *testing.T) {
	t.Parallel()
	for _, quit := range []string{"q", "\x1b", "\x03"} {
		in, keys, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		var fetches atomic.Int32 // the last of them may go on after Watch has returned
		next := busy(t)
		err = Watch(t.Context(), in, &out, empty(t), func() (*overview.Snapshot, error) {
			switch fetches.Add(1) {
			case 1:
				return nil, errors.New("no Caddy answers")
			case 3:
				if _, err := keys.WriteString(quit); err != nil {
					t.Error(err)
				}
			}
			return next, nil
		}, time.Millisecond)
		if err != nil || fetches.Load() < 3 {
			t.Errorf("%q: %v after %d snapshots", quit, err, fetches.Load())
		}
		keys.Close()
		in.Close()
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for s, want := range map[float64]string{0: "0.00 s", 0.004: "0.00 s", 9.99: "9.99 s", 9.996: "10 s", 99.4: "99 s", 99.6: "1 min", 3599: "59 min", 3600: "1 h", 200_000: "2 days"} {
		if got := seconds(s); got != want {
			t.Errorf("%v s is %s, want %s", s, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 0.5: "0.50", 9: "9", 87.4: "87", 9999: "9999", 12_340: "12.3k", 18_000_000: "18M"} {
		if got := number(n); got != want {
			t.Errorf("%v is %s, want %s", n, got, want)
		}
	}
}

// The documentation shows what the command draws.
func TestDocumentedPicture(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile("testdata/busy-80x24.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```\n"+string(picture)+"```\n") {
		t.Error("docs/status.md does not have the picture of testdata/busy-80x24.txt")
	}
}
