package llmproxy

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

func TestBallastSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		available int64
		gogc      string
		want      int64
	}{
		{"large machine", 64 << 30, "", 12 << 20},
		{"small machine", 512 << 20, "", 4 << 20},
		{"set by the user", 64 << 30, "100", 0},
		{"switched off by the user", 64 << 30, "off", 0},
	} {
		if got := ballastSize(tt.available, tt.gogc); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// All handlers of all configurations share one ballast and one timer, which end with the last of them.
func TestOneBallastAndTimer(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	const handler = "\tllm_proxy {\n\t\tupstream u openai "
	caddyfile, _ := site(t, "\troute /a/* {\n"+handler+fake.URL()+"\n\t\tmodel m u\n\t}\n\t}\n"+handler+fake.URL()+"\n\t\tmodel m u\n\t}")
	for range 2 {
		if err := load(t, caddyfile); err != nil {
			t.Fatal(err)
		}
		for name, pool := range map[string]*state.Pool{"ballasts": state.Ballast, "timers": state.GarbageTimer} {
			if n, handlers := pool.Len(), pool.References(state.ThisMachine); n != 1 || handlers != 2 {
				t.Errorf("%d handlers hold %d %s", handlers, n, name)
			}
		}
		caddyfile += "\n" // else it would not be loaded again
	}
}
