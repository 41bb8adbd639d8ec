package llmproxy

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// What Caddy keeps, the tests keep in a folder of their own.
func TestMain(m *testing.M) {
	if caddyfile := os.Getenv(childConfig); caddyfile != "" {
		runChild(caddyfile)
	}
	dir, err := os.MkdirTemp("", "llm_proxy-")
	if err == nil {
		err = os.Setenv("XDG_DATA_HOME", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	caddy.RegisterModule(listener{})
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
