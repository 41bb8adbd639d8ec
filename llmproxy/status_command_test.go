package llmproxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// The command shows what the running Caddy is doing, as text and as JSON.
func TestStatusCommand(t *testing.T) {
	at := []string{"--address", adminServer(t)}
	show := func(args ...string) string {
		t.Helper()
		out, err := runCommand(t, "llm-status", append(args, at...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	if out := show(); !strings.Contains(out, "No handler llm_proxy is running.") {
		t.Errorf("without a configuration: %s", out)
	}
	url, _, release := heldFallback(t, 2)
	answer := make(chan int, 1)
	go func() {
		res, _ := post(t, url, question("m", secretPrompt), "Authorization", "Bearer secret-alice")
		answer <- res.StatusCode
	}()
	eventually(t, "no slot is in use", func() bool { return strings.Contains(show(), "■□ 1/2") })
	if out := show(); !strings.Contains(out, "alice  m      gpu       in progress") || !strings.Contains(out, "broken") {
		t.Errorf("in progress: %s", out)
	}
	close(release)
	if code := <-answer; code != http.StatusOK {
		t.Fatal(code)
	}
	eventually(t, "the request is not shown", func() bool { return strings.Contains(show(), "broken/a failed → ") })
	out := show("--json")
	var s overview.Snapshot
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Requests) != 1 || len(s.Upstreams) != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(out+show(), secretPrompt) {
		t.Error("the prompt is shown")
	}
}

func TestStatusCommandErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"no Caddy answers at 127.0.0.1:1":       {"--address", "127.0.0.1:1"},
		"--interval 1ms is too short":           {"--interval", "1ms"},
		`unknown command "x" for "llm-status"`:  {"x"},
		`invalid argument "soon" for "--interv`: {"--interval", "soon"},
	} {
		if out, err := runCommand(t, "llm-status", args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, %s; want %s", args, err, out, want)
		}
	}
}
