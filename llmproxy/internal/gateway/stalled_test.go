package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A stalledClient accepts a number of writes and then does not read, like an HTTP/2 client that leaves its window closed. A
// blocked write fails when the write deadline passes.
//
// Like the response writers of net/http and of middleware, it accesses its headers without a lock whenever it is used. The race
// detector therefore finds two goroutines that use it at the same time.
type stalledClient struct {
	*httptest.ResponseRecorder
	accepts     int
	used        int
	once        sync.Once
	interrupted chan struct{}
}

func newStalledClient(accepts int) *stalledClient {
	return &stalledClient{ResponseRecorder: httptest.NewRecorder(), accepts: accepts, interrupted: make(chan struct{})}
}

func (s *stalledClient) Header() http.Header {
	s.used++
	return s.ResponseRecorder.Header()
}

func (s *stalledClient) WriteHeader(status int) {
	s.used++
	s.ResponseRecorder.WriteHeader(status)
}

func (s *stalledClient) Write(p []byte) (int, error) {
	s.used++
	defer func() { s.used++ }()
	if s.accepts > 0 {
		s.accepts--
		return s.ResponseRecorder.Write(p)
	}
	<-s.interrupted
	return 0, os.ErrDeadlineExceeded
}

func (s *stalledClient) SetWriteDeadline(time.Time) error {
	s.once.Do(func() { close(s.interrupted) })
	return nil
}

// talking is an upstream that answers after a while, and then with an event a second for ever.
type talking struct{ after time.Duration }

func (u talking) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(u.after):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	r, w := io.Pipe()
	go func() {
		for {
			select {
			case <-time.After(time.Second):
				if _, err := io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"on"},"finish_reason":null}]}`+"\n\n"); err != nil {
					return
				}
			case <-req.Context().Done():
				w.CloseWithError(req.Context().Err())
				return
			}
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: r, Request: req}, nil
}

// A client that does not read holds up neither the time-outs of its attempt nor the slot: with pings before the answer begins,
// and in the middle of it.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, test := range []struct {
		name    string
		after   time.Duration // until the upstream answers
		timers  upstream.Timers
		takes   int
		free    time.Duration // when the slot is free
		over    time.Duration // when the handler returns, at the latest
		verdict router.Verdict
	}{
		{"before the first content", time.Hour, upstream.Timers{FirstToken: 44 * time.Second}, 0, 44 * time.Second, time.Minute, router.Timeout},
		{"in the middle, until the timeout", 0, upstream.Timers{Total: time.Minute}, 3, 61 * time.Second, 62 * time.Second, router.ClientClosed},
		{"in the middle, for longer than idle_timeout", 0, upstream.Timers{Idle: 20 * time.Second}, 3, 30 * time.Second, 31 * time.Second, router.ClientClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, err := url.Parse("http://upstream/v1")
				if err != nil {
					t.Fatal(err)
				}
				u := upstream.New(upstream.Config{Name: "u", Kind: upstream.OpenAI, Bases: []*url.URL{base}, Timers: test.timers, Transport: talking{test.after}})
				table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/x"}, Policy: router.First}}}})
				if err != nil {
					t.Fatal(err)
				}
				g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table, Deadline: test.timers.FirstToken})
				defer g.Close()
				began, rec := time.Now(), new(exchange.Record)
				var over time.Duration
				done := make(chan struct{})
				go func() {
					defer close(done)
					r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, strings.NewReader(chat("m", true)))
					task, _ := TaskOf(chatPath)
					g.Serve(newStalledClient(test.takes), r, task, rec)
					over = time.Since(began)
				}()
				time.Sleep(test.free + time.Millisecond)
				synctest.Wait()
				if n := u.Replicas[0].InFlight(); n != 0 {
					t.Errorf("after %s %d slots are taken", test.free, n)
				}
				<-done
				if over > test.over {
					t.Errorf("the handler returned after %s, want %s at most", over, test.over)
				}
				if rec.Verdict != test.verdict {
					t.Errorf("verdict %s, want %s", rec.Verdict, test.verdict)
				}
			})
		})
	}
}

// A slowClient takes a while for each write.
type slowClient struct{ *httptest.ResponseRecorder }

func (c slowClient) Write(p []byte) (int, error) {
	time.Sleep(800 * time.Millisecond)
	return c.ResponseRecorder.Write(p)
}

// A client that is reading when an upstream is late is not to blame for it.
func TestClientThatReadsSlowly(t *testing.T) {
	const empty = `data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}` + "\n\n"
	synctest.Test(t, func(t *testing.T) {
		base, err := url.Parse("http://upstream/v1")
		if err != nil {
			t.Fatal(err)
		}
		body := &pacedBody{parts: []part{{0, `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n"}, {150 * time.Millisecond, empty}}, repeats: true, closed: make(chan struct{})}
		u := upstream.New(upstream.Config{Name: "u", Kind: upstream.OpenAI, Bases: []*url.URL{base}, Timers: upstream.Timers{Idle: 2 * time.Second}, Transport: body})
		table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/x"}, Policy: router.First}}}})
		if err != nil {
			t.Fatal(err)
		}
		g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table})
		defer g.Close()
		task, _ := TaskOf(chatPath)
		rec, w := new(exchange.Record), slowClient{httptest.NewRecorder()}
		g.Serve(w, httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(chat("m", true))), task, rec)
		if rec.Verdict != router.Timeout || !strings.Contains(w.Body.String(), "stopped sending") {
			t.Errorf("verdict %s, want %s; %s", rec.Verdict, router.Timeout, w.Body)
		}
	})
}
