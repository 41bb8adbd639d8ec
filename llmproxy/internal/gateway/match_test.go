package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	webSocket := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"x"}, "Sec-Websocket-Version": {"13"}}
	for _, test := range []struct {
		method, path string
		header       http.Header
		claim        Claim
		upgrade      bool
	}{
		{"POST", "/v1/chat/completions", nil, Ours, false},
		{"POST", "/v1//chat/completions", nil, Ours, false},
		{"GET", "/v1/v1/models", nil, Ours, false},
		{"POST", "/chat/completions", nil, Ours, false},
		{"GET", "/chat/completions", nil, IfUnanswered, false}, // maybe a page of a web UI
		{"POST", "/responses", nil, IfUnanswered, false},
		{"GET", "/models", nil, IfUnanswered, false},
		{"POST", "/v1/unknown", nil, IfUnanswered, false},
		{"GET", "/llm/usage/", nil, Ours, false},
		{"GET", "/", nil, IfUnanswered, false},
		{"HEAD", "/", nil, IfUnanswered, false},
		{"POST", "/", nil, NotOurs, false},
		{"GET", "/", webSocket, NotOurs, false},
		{"POST", "/api/chat", nil, Ours, false},
		{"GET", "/api//tags/", nil, Ours, false},
		{"POST", "/v1/api/chat", nil, Ours, false},
		{"POST", "/ollama/api/chat", nil, IfUnanswered, false},
		{"POST", "/api/users", nil, NotOurs, false},

		{"GET", "/v1/responses", webSocket, Ours, true},
		{"GET", "/v1/realtime", webSocket, Ours, true},
		{"GET", "/v1/anything/else", webSocket, Ours, true},
		{"GET", "/v1//responses", webSocket, Ours, true},
		{"GET", "/v1/models", webSocket, Ours, true},
		{"GET", "/v1/responses", http.Header{"Upgrade": {"WebSocket"}}, Ours, true},
		{"GET", "/v1/responses", http.Header{"Upgrade": {"h2c, websocket"}}, Ours, true},
		{"GET", "/v1/responses", http.Header{"Upgrade": {"h2c", "websocket"}}, Ours, true},
		{"GET", "/v1/responses", http.Header{"Sec-Websocket-Version": {"13"}}, Ours, true}, // behind a proxy that removes Upgrade
		{"CONNECT", "/v1/responses", http.Header{"Sec-Websocket-Version": {"13"}}, Ours, true},
		{"GET", "/responses", webSocket, IfUnanswered, true},
		{"GET", "/ws", webSocket, NotOurs, false}, // a web UI's own
		{"GET", "/socket.io/", webSocket, NotOurs, false},
		{"POST", "/v1/chat/completions", http.Header{"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}}, Ours, false}, // Java's client
	} {
		r := httptest.NewRequest(test.method, "/", nil)
		r.URL.Path = test.path
		if test.header != nil {
			r.Header = test.header
		}
		if task, claim := Match(r); claim != test.claim || task.upgrade != test.upgrade {
			t.Errorf("%s %s %v: claim %d, upgrade %t", test.method, test.path, test.header, claim, task.upgrade)
		}
	}
}

// Codex goes on over HTTP only after status 426. Callers need no key for it, so that the status is the same for everyone.
func TestWebSocketIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice"})
	s.serve("m u")
	req, err := http.NewRequest(http.MethodGet, s.server.URL+"/v1/responses", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"}}
	got := s.do(req)
	if got.status != http.StatusUpgradeRequired || got.header.Get("Content-Type") != "application/json" || got.header.Get("Upgrade") == "" ||
		!strings.Contains(got.body, `"code":"websocket_not_supported"`) {
		t.Errorf("status %d, header %v, body %s", got.status, got.header, got.body)
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("the upstream got %d requests", n)
	}
}

// The endpoint below /v1/responses that names a model and stores nothing is routed like any other.
func TestCompactIsRouted(t *testing.T) {
	t.Parallel()
	const path, answer = "/v1/responses/compact", `{"object":"response.compaction","output":[],"usage":{"input_tokens":7,"output_tokens":2,"total_tokens":9}}`
	s, fake := one(t, "openai", nil)
	fake.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(answer)))
	got := s.serve("m u/real").post(path, `{"model":"m","input":[{"role":"user","content":"hi"}],"instructions":"x"}`)
	if got.status != http.StatusOK || got.body != answer {
		t.Errorf("status %d, body %s", got.status, got.body)
	}
	if seen := fake.Requests(); len(seen) != 1 || seen[0].Path != path || !strings.Contains(string(seen[0].Body), `"model":"real"`) {
		t.Errorf("the upstream got %+v", seen)
	}
	if rec := s.record(); !rec.HasUsage || rec.Estimated || rec.Usage.Input != 7 {
		t.Errorf("usage %+v, estimated %t", rec.Usage, rec.Estimated)
	}
}
