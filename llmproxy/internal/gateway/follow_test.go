package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/caching"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/answercache"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// inTurn answers each request in a way of its own.
type inTurn struct {
	turns []slow
	n     *atomic.Int64
}

func (i inTurn) RoundTrip(req *http.Request) (*http.Response, error) {
	return i.turns[i.n.Add(1)-1].RoundTrip(req)
}

// While the client of a stream waits for somebody else's answer to begin, it gets comments as if it were its own: every 15 s of
// its own time.
func TestHeartbeatsWhileFollowing(t *testing.T) {
	const (
		stream, ping = "text/event-stream", ": ping\n\n"
		whole        = `{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`
		pieces       = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}` + "\n\n" +
			`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
		events = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	)
	for _, test := range []struct {
		name             string
		upstream         []slow
		leader, follower bool // wants a stream
		want, cache      string
	}{
		{"before the first", []slow{{20 * time.Second, answered, stream}}, true, true, answered, "coalesced"},
		{"after two", []slow{{40 * time.Second, answered, stream}}, true, true, ping + ping + answered, "coalesced"},
		{"of a whole answer", []slow{{40 * time.Second, whole, "application/json"}}, false, true, ping + ping + pieces, "coalesced"},
		{"no stream was asked for", []slow{{40 * time.Second, events, stream}}, true, false, "", "coalesced"},
		{"the leader fails", []slow{{time.Hour, "", stream}, {time.Second, answered, stream}}, true, true, ping + ping + answered, "miss"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := waiting(t, inTurn{test.upstream, new(atomic.Int64)}, upstream.Timers{FirstToken: 50 * time.Second})
				serve := func(stream bool) (*stalledClient, *exchange.Record) {
					w, rec := newStalledClient(1000), &exchange.Record{}
					r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(chat("m", stream))).WithContext(context.Background())
					task, _ := TaskOf(chatPath)
					g.Serve(w, r, task, rec)
					return w, rec
				}
				go serve(test.leader)
				<-time.After(7 * time.Second)
				w, rec := serve(test.follower)
				if test.follower {
					if diff := cmp.Diff(test.want, w.Body.String()); diff != "" {
						t.Error(diff)
					}
				} else if strings.Contains(w.Body.String(), ping) || !strings.Contains(w.Body.String(), `"content":"Hi"`) {
					t.Error(w.Body)
				}
				if w.Code != http.StatusOK || rec.Status != http.StatusOK || rec.Cache != test.cache {
					t.Errorf("status %d, recorded %d, %s", w.Code, rec.Status, rec.Cache)
				}
				synctest.Wait()
			})
		})
	}
}

// waiting is a gateway with a cache in front of one upstream.
func waiting(t *testing.T, transport http.RoundTripper, timers upstream.Timers) *Gateway {
	t.Helper()
	base, err := url.Parse("http://upstream/v1")
	if err != nil {
		t.Fatal(err)
	}
	u := upstream.New(upstream.Config{Name: "u", Kind: upstream.OpenAI, Bases: []*url.URL{base}, Transport: transport, Timers: timers})
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}}})
	if err != nil {
		t.Fatal(err)
	}
	shared := caching.New(1 << 20)
	t.Cleanup(shared.Close)
	g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table, Cache: &answercache.Cache{
		Shared: shared, Store: shared.Memory, TTL: time.Hour, MaxEntry: 1 << 20, MaxSize: 1 << 20, Endpoints: map[string]bool{"chat": true},
	}})
	t.Cleanup(g.Close)
	return g
}

// While an answer is recorded, its clients are pinged in its silences, and those that do not read are let go:
// no attempt watches them.
func TestClientsOfTheCache(t *testing.T) {
	const minute = time.Minute
	quiet := []moment{{0, first}, {40 * time.Second, finish}}
	long := []moment{{0, first}, {time.Second, first}, {2 * time.Second, finish}}
	pinged := first + strings.Repeat(": ping\n\n", 2) + finish
	for _, tt := range []struct {
		name    string
		script  []moment
		timers  upstream.Timers
		after   time.Duration // between the first request and the client's; zero: it is the first
		reads   int           // writes that the client takes; zero: all
		over    time.Duration // when the handler returns
		cache   string
		verdict router.Verdict
		want    string // what the client gets, if it reads
	}{
		{"leader in a silence", quiet, upstream.Timers{}, 0, 0, 40 * time.Second, "miss", router.OK, pinged},
		{"follower in a silence", quiet, upstream.Timers{}, 5 * time.Second, 0, 35 * time.Second, "coalesced", router.OK, pinged},
		{"leader that does not read", long, upstream.Timers{}, 0, 1, 5 * minute, "miss", router.ClientClosed, ""},
		{"leader that does not read, with a timeout", long, upstream.Timers{Total: minute}, 0, 1, minute, "miss", router.ClientClosed, ""},
		{"leader that does not read, with an idle timeout", long, upstream.Timers{Idle: minute}, 0, 1, minute, "miss", router.ClientClosed, ""},
		{"follower that does not read", append(long[:1:1], moment{30 * time.Second, finish}), upstream.Timers{}, 5 * time.Second, 1, 5*minute + 25*time.Second, "coalesced", router.ClientClosed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := waiting(t, &timed{script: tt.script}, tt.timers)
				serve := func(reads int) (*stalledClient, *exchange.Record) {
					w, rec := newStalledClient(reads), new(exchange.Record)
					task, _ := TaskOf(chatPath)
					g.Serve(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(chat("m", true))), task, rec)
					return w, rec
				}
				if tt.after > 0 {
					go serve(1 << 20)
					time.Sleep(tt.after)
				}
				if tt.reads == 0 {
					tt.reads = 1 << 20
				}
				began := time.Now()
				w, rec := serve(tt.reads)
				if took := time.Since(began); took < tt.over || took > tt.over+20*time.Second {
					t.Errorf("the handler returned after %s, want %s", took, tt.over)
				}
				if rec.Cache != tt.cache || rec.Verdict != tt.verdict {
					t.Errorf("%s, verdict %s; want %s, %s", rec.Cache, rec.Verdict, tt.cache, tt.verdict)
				}
				if diff := cmp.Diff(tt.want, w.Body.String()); tt.want != "" && diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
