//go:build redis

package llmproxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/redislimit"
)

// sixADay is a site of 6 requests a day, once there are so many that share them.
func sixADay(t *testing.T, server *redistest.Server, sharers int64, more string) (url string) {
	t.Helper()
	caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t\tlimit {\n\t\t\trate 6/d\n\t\t\tconcurrent 9\n\t\t}\n\t\tstate "+server.URL()+"\n"+more+"\t}")
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	client := server.Client(t)
	eventually(t, "Caddy does not come", func() bool { return client.ZCard(t.Context(), "llm_proxy:{limits}:present").Val() == sharers })
	return url
}

// answer sends a chat request and returns the response, its body and how long it took.
func answer(t *testing.T, url string) (res *http.Response, body string, took time.Duration) {
	t.Helper()
	start := time.Now()
	res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text), time.Since(start)
}

// neighbour is the store of another Caddy on the same server.
func neighbour(t *testing.T, server *redistest.Server) *redislimit.Limiter {
	t.Helper()
	client, err := state.NewRedis(server.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := redislimit.New(client, redislimit.Config{})
	t.Cleanup(func() {
		s.Close()
		client.Close()
	})
	eventually(t, "the server is not used", func() bool { return s.Peek(t.Context(), new(ratelimit.Reservation)) == nil })
	return s
}

// Two Caddys on one Redis hold a limit together, and it outlives both.
func TestLimitsAreShared(t *testing.T) {
	server := redistest.Start(t)
	rate, err := ratelimit.ParseRate(ratelimit.Requests, "6/d")
	if err != nil {
		t.Fatal(err)
	}
	there := neighbour(t, server)
	for range 3 {
		one := ratelimit.Reservation{Limits: ratelimit.New("site/site", []ratelimit.Rule{rate})}
		if err := there.Take(t.Context(), &one); err != nil || one.Denied != nil {
			t.Fatal(err, one.Denied)
		}
	}
	url := sixADay(t, server, 2, "")
	for i := range 2 {
		if res, body, _ := answer(t, url); res.StatusCode != 200 || res.Header.Get("X-Ratelimit-Remaining-Requests") != string(rune('2'-i)) {
			t.Errorf("status %d, %v: %s", res.StatusCode, res.Header, body)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	url = sixADay(t, server, 2, "")
	for _, want := range []int{200, 429, 429} {
		if res, body, _ := answer(t, url); res.StatusCode != want {
			t.Errorf("status %d, want %d: %s", res.StatusCode, want, body)
		}
	}
}

// While the server hangs, on_state_error says what becomes of requests, and none waits for it for long.
func TestOnStateError(t *testing.T) {
	for _, test := range []struct {
		name, more string
		statuses   []int
	}{
		{"allow", "", []int{200, 200, 200, 200, 429}},
		{"deny", "\t\ton_state_error deny\n", []int{503, 503, 503, 503, 503}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := redistest.Start(t)
			url := sixADay(t, server, 1, test.more)
			for range 2 {
				if res, body, _ := answer(t, url); res.StatusCode != 200 {
					t.Fatalf("status %d: %s", res.StatusCode, body)
				}
			}
			server.Hang()
			for _, want := range test.statuses {
				res, body, took := answer(t, url)
				if res.StatusCode != want {
					t.Errorf("status %d, want %d: %s", res.StatusCode, want, body)
				}
				if want == 503 && (res.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"state_unavailable"`)) {
					t.Errorf("%v: %s", res.Header, body)
				}
				if took > stalled {
					t.Errorf("it took %s", took)
				}
			}
			server.GoOn()
		})
	}
}
