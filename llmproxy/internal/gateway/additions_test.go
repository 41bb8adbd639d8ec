package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A picky upstream refuses requests that have a member, and answers all others.
type picky struct {
	refuses string
	status  int
	error   string
	asked   atomic.Int32
}

func (p *picky) RoundTrip(req *http.Request) (*http.Response, error) {
	p.asked.Add(1)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(soundStream)), Request: req}
	if bytes.Contains(body, []byte(p.refuses)) {
		res.StatusCode, res.Header, res.Body = p.status, http.Header{"Content-Type": {"application/json"}}, io.NopCloser(strings.NewReader(p.error))
	}
	return res, nil
}

// The client never hears of what the gateway added to its request, and the upstream is asked without that from then on.
func TestAddedMemberIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, refuses string
		status        int
		error         string
		first, second int32 // how often the upstream is asked for the first and for the second request
		sound         bool
	}{
		{"stream_options", "stream_options", 400, `{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`, 2, 1, true},
		{"inside a 200", "stream_options", 200, `{"error":{"message":"Unknown parameter: stream_options","code":400}}`, 2, 1, true},
		{"in the words of Mistral", "stream_options", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}`, 2, 1, true},
		{"the client's own member", "messages", 400, `{"error":{"message":"Unknown parameter: 'messages'.","param":"messages"}}`, 1, 1, false},
		{"an error that only seems to be about it", "messages", 400, `{"error":{"message":"unknown field 'x', not one of 'stream_options'"}}`, 2, 2, false},
	} {
		for _, fallback := range []string{"", " | b/y"} {
			t.Run(tt.name+fallback, func(t *testing.T) {
				t.Parallel()
				p := &picky{refuses: `"` + tt.refuses + `"`, status: tt.status, error: tt.error}
				s := &setup{t: t}
				s.up("a", upstream.OpenAI, func(c *upstream.Config) { c.Transport = p }, "http://a")
				s.up("b", upstream.OpenAI, func(c *upstream.Config) { c.Transport = &picky{refuses: "\x00"} }, "http://b")
				s.serve("m a/x" + fallback)
				for i, want := range []int32{tt.first, tt.second} {
					p.asked.Store(0)
					got := s.post("/v1/chat/completions", chat("m", true))
					if sound := got.body == soundStream; sound != tt.sound || p.asked.Load() != want {
						t.Errorf("request %d: asked %d times, want %d; status %d: %s", i, p.asked.Load(), want, got.status, got.body)
					}
				}
			})
		}
	}
}
