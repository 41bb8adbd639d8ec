package relay

import (
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// The client sees comments, then the error in its own dialect, under one status.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	e := &wire.Error{Status: 504, Type: "server_error", Code: "upstream_timeout", Message: "silent"}
	for _, test := range []struct {
		name    string
		framing wire.Framing
		want    string
	}{
		{"chunks", wire.Chunks, `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"}}`},
		{"typed", wire.Typed, "event: error\n" + `data: {"error":{"message":"silent","type":"server_error","param":null,"code":"upstream_timeout"},"type":"error","code":"upstream_timeout","message":"silent","param":null,"sequence_number":0}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var h Heartbeat
			w := httptest.NewRecorder()
			h.Beat(w)
			h.Beat(w)
			if !h.Stop() {
				t.Error("it says that it never began")
			}
			h.Beat(w) // too late
			sent := h.Fail(w, test.framing, e)
			if diff := cmp.Diff(": ping\n\n: ping\n\n"+test.want+"\n\n", w.Body.String()); diff != "" {
				t.Error(diff)
			}
			if int(sent) != w.Body.Len() || w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Header().Get("Cache-Control") != "no-cache, no-transform" {
				t.Errorf("%d bytes counted, status %d, header %v", sent, w.Code, w.Header())
			}
		})
	}
}

func TestHeartbeatThatNeverBegan(t *testing.T) {
	t.Parallel()
	var h Heartbeat
	w := httptest.NewRecorder()
	if h.Stop() {
		t.Error("it began by itself")
	}
	if h.Beat(w); w.Body.Len() != 0 {
		t.Error("it beats after it was stopped")
	}
}
