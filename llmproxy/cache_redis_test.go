//go:build redis

package llmproxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// stalled is far beyond the 50 ms that a request waits for the state, on whatever machine. That it does not wait much longer is
// held in the packages that have the waits.
const stalled = 5 * time.Second

// traffic is requests and what became of them.
type traffic struct {
	t     *testing.T
	url   string
	mu    sync.Mutex
	waits []time.Duration
	count map[string]int
	midst chan struct{} // closed after a hundred
}

// ask sends a question and returns what the cache did.
func (tr *traffic) ask(question int) string {
	start := time.Now()
	res, err := http.Post(tr.url+"/v1/chat/completions", "application/json", strings.NewReader(fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%d"}]}`, question)))
	if err != nil {
		tr.t.Error(err)
		return ""
	}
	defer res.Body.Close()
	text(tr.t, res)
	if res.StatusCode != http.StatusOK {
		tr.t.Errorf("status %d", res.StatusCode)
	}
	how := res.Header.Get("X-LLM-Cache")
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.waits = append(tr.waits, time.Since(start))
	tr.count[how]++
	if len(tr.waits) == 100 {
		close(tr.midst)
	}
	return how
}

// The store is killed, or hangs, while requests go through: all are answered, and none waits for it. When it is back, it is used.
func TestCacheWhoseStoreDies(t *testing.T) {
	for _, test := range []struct {
		name        string
		harm, mends func(*redistest.Server)
	}{
		{"killed", (*redistest.Server).Down, (*redistest.Server).Up},
		{"hangs", (*redistest.Server).Hang, (*redistest.Server).GoOn},
	} {
		t.Run(test.name, func(t *testing.T) {
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
			tr := &traffic{t: t, url: url, count: map[string]int{}, midst: make(chan struct{})}
			var all sync.WaitGroup
			for n := range 4 {
				all.Go(func() {
					for i := range 100 {
						tr.ask((i + n) % 10)
					}
				})
			}
			<-tr.midst
			test.harm(server)
			all.Wait()
			t.Logf("%v; the slowest took %s", tr.count, slices.Max(tr.waits))
			if len(tr.waits) != 400 || tr.count["hit"] == 0 || tr.count["miss"] == 0 || tr.count["hit"]+tr.count["miss"]+tr.count["coalesced"] != 400 {
				t.Errorf("%d answers: %v", len(tr.waits), tr.count)
			}
			if slow := slices.Max(tr.waits); slow > stalled {
				t.Errorf("one waited %s", slow)
			}
			test.mends(server)
			eventually(t, "the store is not used any more", func() bool { return tr.ask(1000) == "hit" })
		})
	}
}
