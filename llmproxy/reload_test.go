package llmproxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A reload does not affect an open stream, and its replica stays in use.
func TestStreamSurvivesReload(t *testing.T) {
	release := make(chan struct{})
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("one", " two").HoldAfter(1, release))
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(ask(t, url, "m", true).Body)
	if first, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(first, "data: ") {
		t.Fatalf("the stream began with %q, %v", first, err)
	}
	if err := load(t, strings.Replace(caddyfile, "model m u", "model other u\n\t\tmodel m u", 1)); err != nil {
		t.Fatal(err)
	}
	if n := state.Replicas.References(fake.URL() + "/v1"); n != 1 {
		t.Errorf("after the reload, %d handlers use the replica", n)
	}
	close(release)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("after the reload, the stream was %q, %v", rest, err)
	}
}

// The state of a replica survives a reload, and the new configuration goes on probing it.
func TestReplicaStateSurvivesReload(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+"\n\t\tmodel m u/x\n\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	fake.Down()
	if res := ask(t, url, "m", false); res.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("status %d", res.StatusCode)
	}
	stateNow := func() (s string) {
		state.Each(state.Replicas, func(_ any, r *replica.Replica) { s = r.Status().State.String() })
		return s
	}
	if err := load(t, strings.Replace(caddyfile, "model m u/x", "model other u\n\t\tmodel m u/x", 1)); err != nil {
		t.Fatal(err)
	}
	if got := stateNow(); got != "down" {
		t.Errorf("after the reload, the replica is %s", got)
	}
	fake.Up(t)
	eventually(t, "the replica is not probed by the new configuration", func() bool { return stateNow() == "up" })
}

// When the process exits, open streams end with an error event.
func TestExitEndsStreamsWithAnError(t *testing.T) {
	isExiting = func() bool { return true }
	t.Cleanup(func() { isExiting = caddy.Exiting })
	fake := fakellm.Start(t, "openai")
	fake.Always(fakellm.Text("one", " two").StallAfter(1))
	url := run(t, "\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t}")
	res := ask(t, url, "m", true)
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	if got := text(t, res); !strings.Contains(got, `data: {"error":{"message":"The gateway is shutting down`) || strings.Contains(got, "[DONE]") {
		t.Errorf("the stream was %s", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
