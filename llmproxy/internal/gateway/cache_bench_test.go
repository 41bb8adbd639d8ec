package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// BenchmarkHit answers from the cache, without a network: what the gateway itself takes, with the median of the latencies.
func BenchmarkHit(b *testing.B) {
	base, err := upstream.ParseAddress("http://echo")
	if err != nil {
		b.Fatal(err)
	}
	u := upstream.New(upstream.Config{Name: "echo", Kind: upstream.Echo, Bases: []*url.URL{base}}, func(a string) *router.Replica { return &router.Replica{Address: a} })
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"echo/echo"}, Policy: router.First}}}})
	if err != nil {
		b.Fatal(err)
	}
	shared := caching.New(64 << 20)
	defer shared.Close()
	prompt := strings.Repeat("a word or two of a prompt. ", 150) // 4 KB
	answer := caching.Entry{Form: caching.Events, ContentType: eventType, Created: time.Now(), TTL: time.Hour, Target: "echo/echo",
		Body: []byte(strings.Repeat(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}`+"\n\n", 200))}
	for _, test := range []struct{ name, body string }{
		{"stream of 200 events", `{"model":"m","stream":true,"messages":[{"role":"user","content":"` + prompt + `"}]}`},
		{"whole", `{"model":"m","messages":[{"role":"user","content":"` + prompt + `!"}]}`},
		{"whole of a stream of 200 events", `{"model":"m","messages":[{"role":"user","content":"` + prompt + `"}]}`},
	} {
		b.Run(test.name, func(b *testing.B) {
			rules := &Cache{Shared: shared, Store: shared.Memory, TTL: time.Hour, MaxEntry: 4 << 20, MaxSize: 64 << 20, Endpoints: map[string]bool{"chat": true}}
			g := New(Config{Upstreams: []*upstream.Upstream{u}, Models: table, Cache: rules})
			serve := func() *Record {
				r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(test.body))
				task, _ := Match(chatPath)
				rec := &Record{}
				g.Serve(httptest.NewRecorder(), r, task, rec)
				return rec
			}
			if strings.Contains(test.name, "stream") { // as long as answers are
				rules.Store = always(answer.Marshal())
			}
			serve()
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				rec := serve()
				took = append(took, time.Since(start))
				if rec.Cache != cacheHit {
					b.Fatal(rec.Cache)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
		})
	}
}

// always is a store that has one value under every key.
type always []byte

func (a always) Get(context.Context, string, []caching.Key) [][]byte { return [][]byte{a} }

func (a always) Put(string, []caching.Item, time.Duration) {}

func (a always) Purge(context.Context, string) (int, error) { return 0, nil }
