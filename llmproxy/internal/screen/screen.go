// Package screen draws what the gateway is doing now in a terminal: slots, queues, states, traffic, spend and the latest requests. It decides
// how that looks at which size, and which keys change it.
//
// It never asks the gateway: its caller gives it snapshots, or a function that returns them. It knows neither Caddy nor the admin API, and stands
// above overview, whose snapshots it draws.
package screen

import (
	"context"
	"fmt"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// Fetch returns the latest snapshot.
type Fetch func() (*overview.Snapshot, error)

// Watch draws the first snapshot, and after each interval the next one, until the user quits. In and out are a terminal. If a snapshot
// cannot be fetched, the last one stays, with the error above it.
func Watch(ctx context.Context, in io.Reader, out io.Writer, first *overview.Snapshot, fetch Fetch, interval time.Duration) error {
	w := &watched{fetch: fetch, interval: interval, picture: picture{Snapshot: first}}
	_, err := tea.NewProgram(w, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
	return err
}

// Print writes a snapshot as text, with all upstreams and the last requests.
func Print(out io.Writer, s *overview.Snapshot) error {
	_, err := fmt.Fprintln(out, (&picture{Snapshot: s}).text())
	return err
}

// watched is the state of Watch.
type watched struct {
	fetch    Fetch
	interval time.Duration
	picture  picture
	err      error // of the last fetch
}

// fetched is the message that a fetch has ended, due that it is time for the next one.
type (
	fetched struct {
		snapshot *overview.Snapshot
		err      error
	}
	due struct{}
)

// Init implements tea.Model.
func (w *watched) Init() tea.Cmd { return w.wait() }

// wait returns the command that waits for the next fetch.
func (w *watched) wait() tea.Cmd {
	return tea.Tick(w.interval, func(time.Time) tea.Msg { return due{} })
}

func (w *watched) ask() tea.Msg {
	s, err := w.fetch()
	return fetched{s, err}
}

// Update implements tea.Model.
func (w *watched) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case fetched:
		if w.err = msg.err; msg.err == nil {
			w.picture.Snapshot = msg.snapshot
		}
		return w, w.wait()
	case due:
		return w, w.ask
	case tea.WindowSizeMsg:
		w.picture.width, w.picture.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch key := msg.String(); key {
		case "q", "esc", "ctrl+c":
			return w, tea.Quit
		default:
			w.picture.press(key)
		}
	}
	return w, nil
}

// View implements tea.Model.
func (w *watched) View() tea.View {
	v := tea.NewView("")
	if w.picture.width > 0 { // known by now
		v.SetContent(w.picture.screen(w.err))
	}
	v.AltScreen = true
	return v
}
