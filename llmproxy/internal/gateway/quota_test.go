package gateway

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
)

// Every answer to a client with limits has its quota, also where nothing was used.
func TestEveryAnswerTellsWhatIsLeft(t *testing.T) {
	t.Parallel()
	s, _ := one(t, "openai", nil)
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"m"}, Limits: keys.Limits{Rate: []string{"9/d"}}}, &keys.Entry{Name: "bob"})
	s.serve("m u/x", "n u/x")
	bearer := []string{"Authorization", "Bearer secret-alice"}
	for _, test := range []struct {
		name   string
		got    reply
		status int
		left   string
	}{
		{"an answer", s.post("/v1/chat/completions", chat("m", false), bearer...), 200, "8"},
		{"models", s.get("/v1/models", "secret-alice"), 200, "8"},
		{"its limits", s.get(access.QuotaPath, "secret-alice"), 200, "8"},
		{"bad input", s.post("/v1/chat/completions", "{", bearer...), 400, "8"},
		{"another's model", s.post("/v1/chat/completions", chat("n", false), bearer...), 403, "8"},
		{"a closed path", s.get("/v1/files", "secret-alice"), 404, "8"},
		{"an unknown key", s.get("/v1/models", "secret-mallory"), 401, ""},
		{"no limits", s.get("/v1/models", "secret-bob"), 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if left := test.got.header.Get(remainingRequests); test.got.status != test.status || left != test.left {
				t.Errorf("status %d, %q left; want %d, %q", test.got.status, left, test.status, test.left)
			}
			if limit := test.got.header.Get(limitRequests); (limit == "9") != (test.left != "") {
				t.Errorf("the limit is %q", limit)
			}
		})
	}
}
