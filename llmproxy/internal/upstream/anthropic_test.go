package upstream

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
)

// However a stream of Anthropic's arrives, split at any byte, and however it is read, it becomes the same chunks.
func TestChunksInPieces(t *testing.T) {
	t.Parallel()
	dialecttest.EachStream(t, "messages-stream", func(t *testing.T, in, golden []byte) {
		u := New(Config{Name: "claude", Kind: Anthropic})
		template := templateOf(t, "/v1/chat/completions", `{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}`)
		synctest.Test(t, func(t *testing.T) { // the time is fixed
			translated := func(body io.Reader, read func(io.Reader) io.Reader) []byte {
				res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(body), ContentLength: -1}
				if err := u.TranslateAnswer(template, res); err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				chunks, err := io.ReadAll(read(res.Body))
				if err != nil {
					t.Fatal(err)
				}
				return chunks
			}
			plain := func(r io.Reader) io.Reader { return r }
			want := translated(bytes.NewReader(in), plain)
			dialecttest.ReadChat(t, want)
			if diff := cmp.Diff(string(golden), string(bytes.TrimPrefix(want, []byte(": hello\n\n")))); diff != "" {
				t.Errorf("-golden +got:\n%s", diff)
			}
			if got := translated(iotest.OneByteReader(bytes.NewReader(in)), iotest.OneByteReader); !bytes.Equal(got, want) {
				t.Errorf("byte by byte: %s", cmp.Diff(string(want), string(got)))
			}
			for i := range in {
				got := translated(io.MultiReader(bytes.NewReader(in[:i]), bytes.NewReader(in[i:])), iotest.HalfReader)
				if !bytes.Equal(got, want) {
					t.Fatalf("split at byte %d: %s", i, cmp.Diff(string(want), string(got)))
				}
			}
		})
	})
}
