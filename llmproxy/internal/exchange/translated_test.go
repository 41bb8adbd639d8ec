package exchange

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
)

// newID is an ID that the gateway made.
var newID = regexp.MustCompile(`(toolu|msg)_[A-Z2-7]{26}`)

// translated returns what a client of Anthropic's API gets of a stream in OpenAI's format.
func translated(t *testing.T, body io.Reader) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	x := New(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/messages", nil), dialect.Anthropic, openai.Messages, new(Record))
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(body), ContentLength: -1}
	answer, err := relay.Hold(res, relay.Expect{Endpoint: x.Endpoint, Stream: true, Choices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	client := x.Translated("m", nil)
	begun, err := client.Commit(t.Context(), answer.Streams())
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Send(client, begun); err != nil {
		t.Fatal(err)
	}
	if err := client.Finish(); err != nil {
		t.Fatal(err)
	}
	return newID.ReplaceAll(w.Body.Bytes(), []byte("${1}_NEW"))
}

// However a stream arrives, split at any byte, it becomes the same message.
func TestTranslatedStreamsInPieces(t *testing.T) {
	t.Parallel()
	dialecttest.EachStream(t, "chat-stream", func(t *testing.T, in, golden []byte) {
		want := translated(t, bytes.NewReader(in))
		dialecttest.ReadMessage(t, want)
		if diff := cmp.Diff(string(golden), string(bytes.ReplaceAll(want, pingEvent, nil))); diff != "" {
			t.Errorf("-golden +got:\n%s", diff)
		}
		if got := translated(t, iotest.OneByteReader(bytes.NewReader(in))); !bytes.Equal(got, want) {
			t.Errorf("byte by byte: %s", cmp.Diff(string(want), string(got)))
		}
		for i := range in {
			if got := translated(t, io.MultiReader(bytes.NewReader(in[:i]), bytes.NewReader(in[i:]))); !bytes.Equal(got, want) {
				t.Fatalf("split at byte %d: %s", i, cmp.Diff(string(want), string(got)))
			}
		}
	})
}
