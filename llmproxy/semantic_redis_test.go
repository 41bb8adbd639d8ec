//go:build redis

package llmproxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// The answers to questions in other words come from the shared store; without it they are misses. (As in TestSemanticCache, the
// second question is like nothing, those after it are like the second.)
func TestSemanticCacheInRedis(t *testing.T) {
	server, fake, embedder := redistest.Start(t), fakellm.Start(t, "openai"), fakellm.Start(t, "llamacpp", fakellm.Models("embed"))
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		upstream e llamacpp `+embedder.URL()+`
		model m u/real
		state `+server.URL()+`
		cache `+t.Name()+` {
			semantic {
				embed e/embed
			}
		}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	asked := func(n int, want string) {
		t.Helper()
		body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"What is the plan?%s"}]}`, strings.Repeat("!", n))
		res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got := res.Header.Get("X-LLM-Cache"); got != want || res.StatusCode != http.StatusOK {
			t.Errorf("%d: %d %q, want %q", n, res.StatusCode, got, want)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
	}
	settle := func(questions int) { // the client has its answer a moment before it is kept
		for found := false; !found; {
			caches.Range(func(name, value any) bool {
				n, _ := value.(sharedCache).Index.Usage()
				found = found || name == t.Name() && n == questions
				return true
			})
		}
	}
	asked(0, "miss")
	settle(1)
	asked(1, "miss")
	settle(2)
	asked(2, "semantic")
	asked(3, "semantic")
	server.Down()
	asked(4, "miss")
	if n := len(fake.Requests()); n != 3 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
