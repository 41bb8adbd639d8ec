package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A part of a body comes a while after the one before it.
type part struct {
	after time.Duration
	text  string
}

// A pacedBody sends its parts, then the last of them again and again if it repeats, and never ends unless its request does.
type pacedBody struct {
	ctx     context.Context
	parts   []part
	repeats bool
	ends    bool
	closed  chan struct{}
	close   sync.Once
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		if b.ends {
			return 0, io.EOF
		}
		select {
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		case <-b.closed:
			return 0, http.ErrBodyReadAfterClose
		}
	}
	timer := time.NewTimer(b.parts[0].after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
	n := copy(p, b.parts[0].text)
	if !b.repeats || len(b.parts) > 1 {
		b.parts = b.parts[1:]
	}
	return n, nil
}

func (b *pacedBody) Close() error {
	b.close.Do(func() { close(b.closed) })
	return nil
}

// RoundTrip answers every request with the body.
func (b *pacedBody) RoundTrip(req *http.Request) (*http.Response, error) {
	b.ctx = req.Context()
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: b, Request: req}, nil
}

// The end of an answer is where its dialect says, and not where the connection ends. Signs of life alone do not keep it alive for ever.
func TestEndsOfStreams(t *testing.T) {
	const (
		images, responses = "/v1/images/generations", "/v1/responses"
		hi                = `data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}` + "\n\n"
		stop              = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		stop1             = `data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		usage             = `data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}` + "\n\n"
		done              = "data: [DONE]\n\n"
		comment           = ": alive\n\n"
		empty             = `data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}` + "\n\n"
		delta             = `data: {"type":"response.output_text.delta","delta":"Hi"}` + "\n\n"
		completed         = `data: {"type":"response.completed","response":{"status":"completed","output":[]}}` + "\n\n"
		keepalive         = `data: {"type":"keepalive"}` + "\n\n"
		image             = `data: {"type":"image_generation.completed","b64_json":"QQ=="}` + "\n\n"
		whole             = `{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}`
	)
	silent := `data: {"error":{"message":"The upstream \"u\" stopped sending; the answer is not complete.","type":"server_error","param":null,"code":"upstream_timeout"}}` + "\n\n"
	idle := upstream.Timers{FirstToken: 30 * time.Second, Idle: 2 * time.Second}
	long := upstream.Timers{FirstToken: 30 * time.Second, Idle: time.Minute}
	for _, test := range []struct {
		name, path, body string // of the request
		timers           upstream.Timers
		parts            []part
		repeats, ends    bool
		took             time.Duration
		verdict          router.Verdict
		want             string // nothing: not compared
	}{
		{"[DONE], then silence", chatPath, "", long, []part{{0, hi + stop + done}}, false, false, 200 * time.Millisecond, router.OK, hi + stop + done},
		{"[DONE], then comments", chatPath, "", long, []part{{0, hi + stop + done}, {time.Second / 20, comment}}, true, false, 200 * time.Millisecond, router.OK, hi + stop + done},
		{"[DONE], then the end a moment later", chatPath, "", long, []part{{0, hi + stop + done}, {time.Second / 10, ""}}, false, true, 100 * time.Millisecond, router.OK, hi + stop + done},
		{"[DONE] without a finish, then silence", chatPath, "", long, []part{{0, hi + done}}, false, false, 200 * time.Millisecond, router.OK, hi + done},
		{"the last response event, then silence", responses, `"input":"x"`, long, []part{{0, delta + completed}}, false, false, 200 * time.Millisecond, router.OK, delta + completed},
		{"the last response event, then comments", responses, `"input":"x"`, long, []part{{0, delta + completed}, {time.Second / 20, comment}}, true, false, 200 * time.Millisecond, router.OK, delta + completed},
		{"an image, then silence", images, `"prompt":"x"`, long, []part{{0, image}}, false, false, 200 * time.Millisecond, router.OK, image},
		{"two images, the second one late", images, `"prompt":"x","n":2`, long, []part{{0, image}, {12 * time.Second, image}}, false, false, 12*time.Second + 200*time.Millisecond, router.OK, image + image},

		{"a finish, then silence", chatPath, "", long, []part{{0, hi + stop}}, false, false, 10 * time.Second, router.OK, hi + stop + done},
		{"a finish, then comments", chatPath, "", long, []part{{0, hi + stop}, {3 * time.Second, comment}}, true, false, 10 * time.Second, router.OK, hi + stop + comment + comment + comment + done},
		{"a finish, and the usage late", chatPath, `"stream_options":{"include_usage":true}`, long, []part{{0, hi + stop}, {9 * time.Second, usage + done}}, false, true, 9 * time.Second, router.OK, hi + stop + usage + done},
		{"the finish of one choice of two, then silence", chatPath, `"n":2`, long, []part{{0, hi + stop}, {12 * time.Second, stop1 + done}}, false, true, 12 * time.Second, router.OK, hi + stop + stop1 + done},
		{"more choices than asked for", chatPath, "", long, []part{{0, stop}, {8 * time.Second, strings.Replace(hi, "0", "1", 1)}, {8 * time.Second, stop1 + done}}, false, true, 16 * time.Second, router.OK, ""},

		{"comments alone after content", chatPath, "", idle, []part{{0, hi}, {time.Second, comment}}, true, false, 8 * time.Second, router.Timeout, ""},
		{"comments alone, with a long idle timeout", chatPath, "", long, []part{{0, hi}, {time.Second, comment}}, true, false, time.Minute, router.Timeout, ""},
		{"empty chunks alone", chatPath, "", idle, []part{{0, hi}, {time.Second, empty}}, true, false, 8 * time.Second, router.Timeout, ""},
		{"keepalive events alone", responses, `"input":"x"`, idle, []part{{0, delta}, {time.Second, keepalive}}, true, false, 8 * time.Second, router.Timeout, ""},
		{"silence after content", chatPath, "", idle, []part{{0, hi}}, false, false, 2 * time.Second, router.Timeout, hi + silent},
		{"comments, then content", chatPath, "", idle, []part{{0, hi}, {1500 * time.Millisecond, comment}, {1500 * time.Millisecond, comment}, {1500 * time.Millisecond, comment}, {1500 * time.Millisecond, hi + stop + done}}, false, true, 6 * time.Second, router.OK, hi + comment + comment + comment + hi + stop + done},

		{"a whole answer for a stream, then silence", chatPath, "", long, []part{{0, whole}}, false, false, 200 * time.Millisecond, router.OK, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, err := url.Parse("http://upstream/v1")
				if err != nil {
					t.Fatal(err)
				}
				body := &pacedBody{parts: test.parts, repeats: test.repeats, ends: test.ends, closed: make(chan struct{})}
				u := upstream.New(upstream.Config{Name: "u", Kind: upstream.OpenAI, Bases: []*url.URL{base}, Transport: body, Timers: test.timers, MaxConcurrent: 1})
				table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}}})
				if err != nil {
					t.Fatal(err)
				}
				g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table})
				defer g.Close()
				members := `{"model":"m","stream":true`
				if test.path == chatPath {
					members += `,"messages":[{"role":"user","content":"Hi"}]`
				}
				if test.body != "" {
					members += "," + test.body
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, test.path, strings.NewReader(members+"}"))
				r.Header.Set("Content-Type", "application/json")
				task, _ := Match(r)
				rec, began := &exchange.Record{}, time.Now()
				g.Serve(w, r, task, rec)
				if took := time.Since(began); took != test.took || rec.Verdict != test.verdict {
					t.Errorf("it took %s and ended %s; want %s, %s; %s", took, rec.Verdict, test.took, test.verdict, w.Body)
				}
				if diff := cmp.Diff(test.want, w.Body.String()); diff != "" && test.want != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				<-body.closed
				if n := u.Replicas[0].InFlight(); n != 0 {
					t.Errorf("%d slots are taken", n)
				}
			})
		})
	}
}
