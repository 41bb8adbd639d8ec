//go:build redis

package llmproxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// patient is far beyond the 50 ms that a request waits for the store, and far below what it would wait for a server that
// hangs without that.
const patient = 400 * time.Millisecond

// The store is killed, and later hangs, while requests go through: all are answered, and none waits for it.
func TestCacheWhoseStoreDies(t *testing.T) {
	for name, harm := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Down, "hangs": (*redistest.Server).Hang} {
		t.Run(name, func(t *testing.T) {
			server, fake := redistest.Start(t), fakellm.Start(t, "openai")
			caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model m u/real
		state `+server.URL()+`
		cache `+t.Name()+`
	}`)
			if err := load(t, caddyfile); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var waits []time.Duration
			count := map[string]int{}
			var done atomic.Int64
			midst := make(chan struct{})
			client := func(n int) {
				for i := range 100 {
					start := time.Now()
					res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%d"}]}`, (i+n)%10)))
					if err != nil {
						t.Error(err)
						continue
					}
					text(t, res)
					res.Body.Close()
					if res.StatusCode != http.StatusOK {
						t.Errorf("status %d", res.StatusCode)
					}
					mu.Lock()
					waits = append(waits, time.Since(start))
					count[res.Header.Get("X-LLM-Cache")]++
					mu.Unlock()
					if done.Add(1) == 100 {
						close(midst)
					}
				}
			}
			var all sync.WaitGroup
			for n := range 4 {
				all.Go(func() { client(n) })
			}
			<-midst
			harm(server)
			all.Wait()
			if name == "hangs" {
				server.GoOn()
			}
			t.Logf("%v; the slowest took %s", count, slices.Max(waits))
			if len(waits) != 400 || count["hit"] == 0 || count["miss"] == 0 || count["hit"]+count["miss"]+count["coalesced"] != 400 {
				t.Errorf("%d answers: %v", len(waits), count)
			}
			if slow := slices.Max(waits); slow > patient {
				t.Errorf("one waited %s", slow)
			}
		})
	}
}
