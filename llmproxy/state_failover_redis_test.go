//go:build redis

package llmproxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit/redislimit"
)

// Where another server takes over, or all of them come back, requests go on meanwhile, none waits for long, and what was
// granted is used in the end.
func TestStateFailsOver(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(*testing.T) (address string, cut, mend func())
	}{
		{"sentinel, the master is killed", func(t *testing.T) (string, func(), func()) {
			p := redistest.Setup{}.StartPair(t)
			return p.URL, func() { caughtUp(t, p); p.Master.Down() }, func() {}
		}},
		{"sentinel, the master hangs", func(t *testing.T) (string, func(), func()) {
			p := redistest.Setup{Binary: "valkey-server"}.StartPair(t)
			return p.URL, func() { caughtUp(t, p); p.Master.Hang() }, func() {}
		}},
		{"cluster, killed and started anew", func(t *testing.T) (string, func(), func()) {
			nodes, address := redistest.Setup{Lasting: true}.StartCluster(t)
			each := func(do func(*redistest.Server)) func() {
				return func() {
					for _, n := range nodes {
						do(n)
					}
				}
			}
			return address, each((*redistest.Server).Down), each((*redistest.Server).Up)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, cut, mend := test.start(t)
			caddyfile, url := site(t, "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel m echo/parrot\n\t\tlimit {\n\t\t\trate 6/d\n\t\t}\n\t\tstate "+address+"\n\t}")
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			other := place{address: address}.client(t)
			eventually(t, "Caddy does not come", func() bool { return other.ZCard(t.Context(), "llm_proxy:{limits}:present").Val() == 1 })
			ask := func(n, want int) {
				t.Helper()
				for range n {
					res, body, took := answer(t, url)
					if res.StatusCode != want || took > stalled {
						t.Errorf("status %d after %s, want %d: %s", res.StatusCode, took, want, body)
					}
				}
			}
			ask(2, http.StatusOK)
			cut()
			ask(2, http.StatusOK)
			mend()
			eventually(t, "what was granted is not known", func() bool { return leftOfSix(t, other) == 2 })
			ask(2, http.StatusOK)
			ask(2, http.StatusTooManyRequests)
		})
	}
}

// caughtUp waits until the replica knows what the server knows.
func caughtUp(t *testing.T, p *redistest.Pair) {
	t.Helper()
	conn := p.Master.Client(t).Conn() // it waits for what was written by it, and before
	defer conn.Close()
	if err := conn.Set(t.Context(), "mark", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Wait(t.Context(), 1, time.Minute).Result(); n != 1 || err != nil {
		t.Fatal("the replica does not follow: ", err)
	}
}

// leftOfSix is what another Caddy sees of the site's limit; -1 if it sees nothing.
func leftOfSix(t *testing.T, client redis.UniversalClient) int64 {
	t.Helper()
	rate, err := ratelimit.ParseRate(ratelimit.Requests, "6/d")
	if err != nil {
		t.Fatal(err)
	}
	s := redislimit.New(client, redislimit.Config{})
	defer s.Close()
	one := ratelimit.Reservation{Limits: ratelimit.New("site/site", []ratelimit.Rule{rate})}
	if s.Peek(t.Context(), &one) != nil {
		return -1
	}
	return one.Left[0].Left
}
