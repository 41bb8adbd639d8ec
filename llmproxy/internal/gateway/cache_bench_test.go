package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// echoing is a gateway with a cache in front of the echo upstream.
func echoing(t testing.TB, store caching.Store) *Gateway {
	t.Helper()
	base, err := upstream.OpenAI.ParseAddress("http://echo")
	if err != nil {
		t.Fatal(err)
	}
	u := upstream.New(upstream.Config{Name: "echo", Kind: upstream.Echo, Bases: []*url.URL{base}})
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"echo/echo"}, Policy: router.First}}}})
	if err != nil {
		t.Fatal(err)
	}
	shared := caching.New(64 << 20)
	t.Cleanup(shared.Close)
	if store == nil {
		store = shared.Memory
	}
	g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table, Cache: &answercache.Cache{
		Shared: shared, Store: store, TTL: time.Hour, MaxEntry: 4 << 20, MaxSize: 64 << 20, Endpoints: map[string]bool{"chat": true},
	}})
	t.Cleanup(g.Close)
	return g
}

// longAnswer is a stream of 200 events, as a store gives it.
func longAnswer() always {
	e := caching.Entry{Form: caching.Events, ContentType: "text/event-stream; charset=utf-8", Created: time.Now(), TTL: time.Hour, Target: "echo/echo",
		Body: []byte(strings.Repeat(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}`+"\n\n", 200))}
	return e.Marshal()
}

// A discarding takes an answer to nowhere.
type discarding struct{ header http.Header }

func (d discarding) Header() http.Header { return d.header }

func (discarding) Write(p []byte) (int, error) { return len(p), nil }

func (discarding) WriteHeader(int) {}

// What a hit allocates does not grow with the answer.
func TestAHitAllocatesLittle(t *testing.T) {
	const most = 24 // those of the request that the test makes included
	for name, stream := range map[string]bool{"stream": true, "whole of a stream": false} {
		g, body := echoing(t, longAnswer()), chat("m", stream)
		task, _ := TaskOf(chatPath)
		serve := func() {
			r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: chatPath}, Host: "h", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
			rec := &exchange.Record{}
			g.Serve(discarding{http.Header{}}, r, task, rec)
			if rec.Cache != "hit" {
				t.Fatal(rec.Cache)
			}
		}
		serve() // what is read and brought into a form is kept
		if n := testing.AllocsPerRun(100, serve); n > most {
			t.Errorf("%s: %v", name, n)
		}
	}
}

// BenchmarkHit answers from the cache, without a network: what the gateway itself takes, with the median of the latencies.
func BenchmarkHit(b *testing.B) {
	prompt := strings.Repeat("a word or two of a prompt. ", 150) // 4 KB
	for _, test := range []struct {
		name, body string
		store      caching.Store
	}{
		{"stream of 200 events", `{"model":"m","stream":true,"messages":[{"role":"user","content":"` + prompt + `"}]}`, longAnswer()},
		{"whole", `{"model":"m","messages":[{"role":"user","content":"` + prompt + `!"}]}`, nil},
		{"whole of a stream of 200 events", `{"model":"m","messages":[{"role":"user","content":"` + prompt + `"}]}`, longAnswer()},
	} {
		b.Run(test.name, func(b *testing.B) {
			g := echoing(b, test.store)
			serve := func() *exchange.Record {
				r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(test.body))
				task, _ := TaskOf(chatPath)
				rec := &exchange.Record{}
				g.Serve(httptest.NewRecorder(), r, task, rec)
				return rec
			}
			serve()
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				rec := serve()
				took = append(took, time.Since(start))
				if rec.Cache != "hit" {
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
