package llmproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// If a service refuses one API key, another key for it is used, not the fallback. A server of one's own has one state for all keys.
func TestKeysOfAServiceHaveTheirOwnState(t *testing.T) {
	for _, where := range []struct{ name, second string }{{"remote", "b/x"}, {"local", "c/x"}} {
		t.Run(where.name, func(t *testing.T) {
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.Header.Get("Authorization") != "Bearer key-b" {
					w.WriteHeader(http.StatusUnauthorized)
					w.Write([]byte(`{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`))
					return
				}
				w.Write([]byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`))
			}))
			t.Cleanup(service.Close)
			other := fakellm.Start(t, "openai")
			url := run(t, fmt.Sprintf(`	llm_proxy {
		upstream a openai %[1]s {
			api_key key-a
			%[2]s
		}
		upstream b openai %[1]s {
			api_key key-b
			%[2]s
		}
		upstream c openai %[3]s
		model a {
			to a/x
			fallback c/x
		}
		model b {
			to b/x
			fallback c/x
		}
	}`, service.URL, where.name, other.URL()))
			for _, step := range [][2]string{{"a", "c/x"}, {"b", where.second}} {
				res, answer := post(t, url, question(step[0], "Hi"))
				if got := res.Header.Get("X-LLM-Target"); got != step[1] {
					t.Errorf("%s was answered by %s, want %s: %s", step[0], got, step[1], answer)
				}
			}
		})
	}
}
