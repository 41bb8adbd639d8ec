package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A slow upstream answers, or fails, after a while; the time is the bubble's.
type slow struct {
	after time.Duration
	body  string // empty: it never answers
	kind  string
}

func (s slow) RoundTrip(req *http.Request) (*http.Response, error) {
	timer := time.NewTimer(s.after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {s.kind}}, Body: io.NopCloser(strings.NewReader(s.body)), Request: req}, nil
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
}

const answered = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

// While the client of a stream waits long, it gets comments; from then on its status is 200, and a failure is an event.
func TestHeartbeatsWhileWaiting(t *testing.T) {
	const stream = "text/event-stream"
	ping := ": ping\n\n"
	timeout := `data: {"error":{"message":"The upstream \"u\" did not begin to answer in time.","type":"server_error","param":null,"code":"upstream_timeout"}}` + "\n\n"
	for _, test := range []struct {
		name     string
		upstream slow
		stream   bool
		status   int
		want     string
	}{
		{"an answer before the first", slow{14 * time.Second, answered, stream}, true, 200, answered},
		{"an answer after two", slow{40 * time.Second, answered, stream}, true, 200, ping + ping + answered},
		{"silence to the end", slow{time.Hour, "", stream}, true, 200, strings.Repeat(ping, 3) + timeout},
		{"no stream was asked for", slow{40 * time.Second, `{"choices":[]}`, "application/json"}, false, 200, `{"choices":[]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gatewayOf(t, test.upstream)
				defer g.Close()
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(chat("m", test.stream)))
				r.Header.Set("Content-Type", "application/json")
				task, _ := TaskOf(r.URL.Path)
				rec := &exchange.Record{}
				g.Serve(w, r, task, rec)
				if diff := cmp.Diff(test.want, w.Body.String()); diff != "" || w.Code != test.status {
					t.Errorf("status %d %s", w.Code, diff)
				}
				if rec.Status != w.Code {
					t.Errorf("recorded status %d", rec.Status)
				}
			})
		})
	}
}

// gatewayOf returns a gateway whose model m is at one upstream, which is sent requests by transport and has 50 s for the first token.
func gatewayOf(t *testing.T, transport http.RoundTripper) *Gateway {
	t.Helper()
	base, err := url.Parse("http://upstream/v1")
	if err != nil {
		t.Fatal(err)
	}
	u := upstream.New(upstream.Config{Name: "u", Kind: upstream.OpenAI, Bases: []*url.URL{base}, Transport: transport, Timers: upstream.Timers{FirstToken: 50 * time.Second}})
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}}})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table})
}
