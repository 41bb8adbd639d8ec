// Package e2e holds the gateway against real things: the real Caddy binary with the plugin, a real Ollama, a real
// llama.cpp server, and the SDKs that clients use. It knows nothing of the plugin's code; it sees what users see.
//
// install.sh puts everything in place. What is missing is a failure, never a skip.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// installed says where install.sh has put what the tests need. TestMain fills it in.
var installed struct {
	caddy, ollama, python, node, models string
}

func TestMain(m *testing.M) {
	if err := locate(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	stopFleet()
	os.Exit(code)
}

func locate() error {
	current, err := cacheDir()
	if err != nil {
		return fmt.Errorf("finding the cache: %w", err)
	}
	current = filepath.Join(current, "current")
	caddy := os.Getenv("CADDY")
	if caddy == "" {
		caddy = "../bin/caddy"
	}
	if installed.caddy, err = filepath.Abs(caddy); err != nil {
		return fmt.Errorf("finding Caddy: %w", err)
	}
	installed.ollama = filepath.Join(current, "ollama", "ollama")
	installed.python = filepath.Join(current, "python", "bin", "python")
	installed.node = filepath.Join(current, "node", "node_modules")
	installed.models = filepath.Join(current, "models")

	if _, err := os.Stat(installed.caddy); err != nil {
		return fmt.Errorf("%w: run `make build`, or name the binary in CADDY", err)
	}
	for _, path := range []string{installed.ollama, installed.python, installed.node, installed.models} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: run e2e/install.sh", err)
		}
	}
	return nil
}

// cacheDir is where install.sh keeps its cache; the two must agree.
func cacheDir() (string, error) {
	if dir := os.Getenv("LLMPROXY_E2E_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "caddy-llmproxy-e2e"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "caddy-llmproxy-e2e"), err
}
