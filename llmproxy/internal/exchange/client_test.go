package exchange

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
)

// What a client of another API gets of the events of an answer: translated, as they are, and if they report an error.
func TestTranslatedClient(t *testing.T) {
	t.Parallel()
	const (
		lines  = "application/x-ndjson"
		events = "text/event-stream"
		line   = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"a"},"done":false}`
		failed = `{"error":{"message":"it broke","type":"server_error","param":null,"code":null}}`
	)
	for _, test := range []struct {
		name     string
		endpoint *openai.Endpoint
		passing  bool
		events   string
		fails    bool // with an error of the gateway's own
		want     string
		mime     string
	}{
		{"lines pass", openai.OllamaChat, true, "data: " + line + "\n\ndata: {\"done\":true}\n\n", false, line + "\n{\"done\":true}\n", lines},
		{"no end but their own", openai.OllamaChat, true, "data: {\"done\":true}\n\ndata: [DONE]\n\n", false, "{\"done\":true}\n", lines},
		{"half a line end", openai.OllamaChat, true, "data: {\"done\":true}\r\n\r\n", false, "{\"done\":true}\n", lines},
		{"no comments in lines", openai.OllamaGenerate, false, ": ping\n\n", false, "", lines},
		{"an error as a line", openai.OllamaChat, false, "", true, `{"error":"it broke"}` + "\n", lines},
		{"an error after lines that pass", openai.OllamaChat, true, "data: " + line + "\n\n", true, line + "\n" + `{"error":"it broke"}` + "\n", lines},
		{"a recorded error as a line", openai.OllamaChat, false, "data: " + failed + "\n\n", false, `{"error":"it broke"}` + "\n", lines},
		{"an error as an event", openai.Messages, false, "", true, "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"it broke"},"request_id":"id"}` + "\n\n", events},
		{"a recorded error as an event", openai.Messages, false, "data: " + failed + "\n\n", false, "event: error\ndata: " + `{"type":"error","error":{"type":"api_error","message":"it broke"},"request_id":"id"}` + "\n\n", events},
		{"comments as pings", openai.Messages, false, ": ping\n\n", false, "event: ping\ndata: {\"type\": \"ping\"}\n\n", events},
		{"events pass", openai.Messages, true, "event: message_stop\ndata: {}\n\n", false, "event: message_stop\ndata: {}\n\n", events},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header.Set("X-Request-Id", "id")
			api := dialect.EndpointOf(test.endpoint).API
			x := New(w, r, api, test.endpoint, new(Record))
			c := x.Translated("m", nil)
			c.Pass(test.passing)
			if _, err := c.Commit(context.Background(), true); err != nil {
				t.Fatal(err)
			}
			relay.StreamHeader(c.Header())
			c.WriteHeader(http.StatusOK)
			if _, err := c.Write([]byte(test.events)); err != nil {
				t.Fatal(err)
			}
			if test.fails {
				relay.SendError(c, &openai.Error{Status: http.StatusBadGateway, Message: "it broke", Type: ServerError}, openai.ResponseState{})
			}
			if err := c.Finish(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, w.Body.String()); diff != "" || w.Header().Get("Content-Type") != test.mime || x.Record.Bytes != int64(w.Body.Len()) {
				t.Errorf("%s\n%s, %d bytes", diff, w.Header().Get("Content-Type"), x.Record.Bytes)
			}
		})
	}
}
