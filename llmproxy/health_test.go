package llmproxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, text(t, res)
}

func TestHealthEndpoint(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+"\n\t\tmodel m u/x\n\t\thealth /health\n\t}\n\trespond /healthy \"next handler\" 418")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, url+"/health"); code != http.StatusOK || body != "{\"status\":\"ok\"}\n" {
		t.Errorf("up: %d %s", code, body)
	}
	fake.Down()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for code := 0; code != http.StatusServiceUnavailable; {
		select {
		case <-limit.C:
			t.Fatalf("still %d, and nothing can be served", code)
		default:
			code, _ = get(t, url+"/health")
		}
	}
	code, body := get(t, url+"/health?verbose")
	if code != http.StatusServiceUnavailable || strings.Contains(body, fake.Addr()) {
		t.Errorf("down: %d %s", code, body)
	}
	var answer struct {
		Models    map[string]bool
		Upstreams []struct {
			Name, Kind string
			Replicas   []struct{ State string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"m": false}, answer.Models); diff != "" {
		t.Error(diff)
	}
	if u := answer.Upstreams; len(u) != 1 || u[0].Name != "u" || u[0].Kind != "vllm" || u[0].Replicas[0].State != "down" {
		t.Errorf("upstreams: %+v", u)
	}
	if code, _ := get(t, url+"/health/live"); code != http.StatusOK {
		t.Errorf("live: %d", code)
	}
	if code, _ := get(t, url+"/healthy"); code != http.StatusTeapot {
		t.Errorf("another path: %d", code)
	}
}

// The state of a replica outlives a reload, and an event tells of it.
func TestStateSurvivesReload(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	inside := "\tllm_proxy {\n\t\tupstream u vllm " + fake.URL() + "\n\t\tmodel m u/x\n\t}"
	caddyfile, url := site(t, inside)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	fake.Down()
	if res := ask(t, url, false); res.StatusCode != http.StatusServiceUnavailable {
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
		t.Errorf("after the reload it is %s", got)
	}
	fake.Up(t)
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for stateNow() != "up" {
		select {
		case <-limit.C:
			t.Fatal("the new configuration does not probe what the old one left down")
		case <-tick.C:
		}
	}
}
