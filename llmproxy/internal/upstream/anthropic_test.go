package upstream

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
)

// However a stream of Anthropic's arrives, split at any byte, and however it is read, it becomes the same chunks.
func TestChunksInPieces(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../dialect/testdata/golden/messages-stream/*.in.sse")
	if err != nil || len(files) == 0 {
		t.Fatalf("no streams, %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := os.ReadFile(strings.Replace(file, ".in.", ".out.", 1))
			if err != nil {
				t.Fatal(err)
			}
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
}
