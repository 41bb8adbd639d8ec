package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/screen"
)

const (
	statusPath = "/llm_proxy/status"
	// shortestInterval is how often a snapshot may be taken.
	shortestInterval = 100 * time.Millisecond
)

func watchCommand(cmd *cobra.Command) {
	newCommand(cmd, runWatch)
	cmd.Args = cobra.NoArgs
	cmd.Long = "Shows what the running Caddy is doing now, in the terminal: slots, queues and states of the upstreams, traffic, spend, and the latest requests. " +
		"Without a terminal, prints it once as text."
	cmd.Flags().Bool("json", false, "Print it once as JSON, as GET "+statusPath+" answers")
	cmd.Flags().Duration("interval", time.Second, "How often it is updated")
}

func runWatch(fl caddycmd.Flags, out io.Writer) error {
	interval := fl.Duration("interval")
	if interval < shortestInterval {
		return fmt.Errorf("--interval %v is too short; use at least %v", interval, shortestInterval)
	}
	if fl.Bool("json") {
		return printStatus(fl, out)
	}
	fetch := func() (*overview.Snapshot, error) {
		s := new(overview.Snapshot)
		return s, requestJSON(fl, http.MethodGet, statusPath, s)
	}
	first, err := fetch()
	if err != nil {
		return err
	}
	if terminal, ok := out.(*os.File); ok && term.IsTerminal(int(terminal.Fd())) && term.IsTerminal(int(os.Stdin.Fd())) {
		return screen.Watch(context.Background(), os.Stdin, terminal, first, fetch, interval)
	}
	return screen.Print(out, first)
}

// printStatus prints the status as JSON for people and programs.
func printStatus(fl caddycmd.Flags, out io.Writer) error {
	res, err := request(fl, http.MethodGet, statusPath, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, answer, "", "\t"); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	_, err = indented.WriteTo(out)
	return err
}
