package llmproxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func TestHealthEndpoint(t *testing.T) {
	fake := fakellm.Start(t, "vllm")
	url := run(t, "\tllm_proxy {\n\t\tupstream u vllm "+fake.URL()+"\n\t\tmodel m u/x\n\t\thealth /health\n\t}\n\trespond /healthy \"next handler\" 418")
	if code, body := get(t, url+"/health"); code != http.StatusOK || body != "{\"status\":\"ok\"}\n" {
		t.Errorf("up: %d %s", code, body)
	}
	fake.Down()
	eventually(t, "the endpoint does not answer 503", func() bool {
		code, _ := get(t, url+"/health")
		return code == http.StatusServiceUnavailable
	})
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
