//go:build redis

package llmproxy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
)

// With a shared state usage is there, and not on this machine; the next process finds it.
func TestUsageIsShared(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	server := redistest.Start(t)
	for i := range int64(2) {
		caddyfile, url := site(t, strings.Replace(echo, "model m", "state "+server.URL()+"\n\t\tmodel m", 1))
		if err := load(t, caddyfile); err != nil {
			t.Fatal(err)
		}
		if err := tryHello(url); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int64{"m": i + 1}, used(t)); diff != "" {
			t.Error(diff)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(caddy.AppDataDir(), "llm_proxy")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file, too: %v", err)
	}
}

// Requests are served while the server hangs, and counted when it goes on.
func TestUsageWaitsForTheSharedState(t *testing.T) {
	server := redistest.Start(t)
	caddyfile, url := site(t, strings.Replace(echo, "model m", "state "+server.URL()+"\n\t\tmodel m", 1))
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	server.Hang()
	for range 20 {
		if err := tryHello(url); err != nil {
			t.Error(err)
		}
	}
	if status, body := callAdmin("GET", "/llm_proxy/usage", ""); status != 503 || strings.Contains(body, server.Address) && strings.Contains(body, "redis://") {
		t.Errorf("status %d: %s", status, body)
	}
	server.GoOn()
	if diff := cmp.Diff(map[string]int64{"m": 20}, used(t)); diff != "" {
		t.Error(diff)
	}
}
