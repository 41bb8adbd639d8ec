package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A canned is a transport that reads the request and answers at no cost of its own.
type canned struct {
	contentType []string
	body        string
	events      []string // of a stream, one a read
	got         int64    // bytes of the last request
}

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, req.Body)
	c.got = n
	req.Body.Close()
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": c.contentType}, ContentLength: int64(len(c.body))}
	if c.events != nil {
		res.Body = &reads{events: c.events}
	} else {
		res.Body = io.NopCloser(strings.NewReader(c.body))
	}
	return res, err
}

// reads gives one event at a time.
type reads struct{ events []string }

func (r *reads) Read(p []byte) (int, error) {
	if len(r.events) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.events[0])
	r.events = r.events[1:]
	return n, nil
}

func (r *reads) Close() error { return nil }

// nobody is a client that costs nothing.
type nobody struct {
	header http.Header
	status int
}

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) WriteHeader(status int)      { n.status = status }
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n *nobody) Flush()                      {}

// cheap makes a gateway in front of the transport, and gives one request's way through it.
func cheap(t testing.TB, transport http.RoundTripper) func(body io.Reader, length int64) *nobody {
	t.Helper()
	base, err := upstream.OpenAI.ParseAddress("gpu")
	if err != nil {
		t.Fatal(err)
	}
	c := upstream.Config{Name: "u", Kind: upstream.OpenAI, Transport: transport}
	c.Bases = append(c.Bases, base)
	u := upstream.New(c)
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/there"}, Policy: router.First}}}})
	if err != nil {
		t.Fatal(err)
	}
	g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table})
	task, _ := TaskOf("/v1/chat/completions")
	to := &nobody{}
	req, err := http.NewRequest(http.MethodPost, "/v1/chat/completions", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Content-Type"] = []string{"application/json"}
	return func(body io.Reader, length int64) *nobody {
		req.Body, req.ContentLength = io.NopCloser(body), length
		to.header, to.status = http.Header{}, 0
		g.Serve(to, req, task, &exchange.Record{})
		return to
	}
}

// The budgets of a request, all of the gateway's own but what a transport does. They are here to be lowered.
func TestAllocationBudget(t *testing.T) {
	event := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n"
	stream := func(events int) *canned {
		c := &canned{contentType: []string{"text/event-stream"}}
		for range events {
			c.events = append(c.events, event)
		}
		c.events = append(c.events, strings.Replace(event, `"finish_reason":null`, `"finish_reason":"stop"`, 1), "data: [DONE]\n\n")
		return c
	}
	whole := &canned{contentType: []string{"application/json"}, body: `{"choices":[{"message":{"content":"` + strings.Repeat("x", 1000) + `"}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`}
	cost := func(transport http.RoundTripper, streamed bool) float64 {
		serve, body := cheap(t, transport), chat("m", streamed)
		src := strings.NewReader("")
		return testing.AllocsPerRun(100, func() {
			src.Reset(body)
			if to := serve(src, int64(len(body))); to.status != http.StatusOK {
				t.Fatalf("status %d", to.status)
			}
		})
	}
	answer, short, long := cost(whole, false), cost(stream(1), true), cost(stream(500), true)
	t.Logf("%v allocations for an answer, %v for a stream", answer, short) // 35 and 42
	if answer > 35+raceAllocations {
		t.Errorf("an answer takes %v allocations", answer)
	}
	if short > 42+raceAllocations {
		t.Errorf("a stream takes %v allocations", short)
	}
	if long > short+2 { // under the race detector, pools forget on purpose
		t.Errorf("a stream of one event takes %v allocations, one of 500 events %v", short, long)
	}
}

// A large body is copied once at most: from the memory in which it grew, which is an eighth of it or comes from a pool, or, if its
// length is not known, from the chunks in which it came.
func TestLargeBodyCopies(t *testing.T) {
	body := `{"model":"m","x":"` + strings.Repeat("x", 5<<20) + `"}`
	for _, tt := range []struct {
		name   string
		length int64
		copies float64
	}{{"known length", int64(len(body)), 1.3}, {"unknown length", -1, 2.3}} {
		t.Run(tt.name, func(t *testing.T) {
			transport := &canned{contentType: []string{"application/json"}, body: `{}`}
			serve, src := cheap(t, transport), strings.NewReader("")
			once := func() {
				src.Reset(body)
				if to := serve(src, tt.length); to.status != http.StatusOK {
					t.Fatalf("status %d", to.status)
				}
			}
			once() // what pools keep is not counted
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			once()
			runtime.ReadMemStats(&after)
			copies := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(body))
			if copies > tt.copies+raceCopies {
				t.Errorf("%.2f copies were made, want at most %v", copies, tt.copies)
			}
			if want := int64(len(body) + len("there") - len("m")); transport.got != want {
				t.Errorf("the upstream got %d bytes, want %d", transport.got, want)
			}
		})
	}
}

// BenchmarkServe is the gateway's own part of a request.
func BenchmarkServe(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size>>10, "KB"), func(b *testing.B) {
			serve := cheap(b, &canned{contentType: []string{"application/json"}, body: `{"choices":[{"message":{"content":"` + strings.Repeat("x", size) + `"}}]}`})
			body := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("The quick brown fox. ", size/21) + `"}],"model":"m"}`)
			src := bytes.NewReader(nil)
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(body)
				serve(src, int64(len(body)))
			}
		})
	}
}
