package upstream

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect/dialecttest"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Every endpoint that a kind lacks can be replaced by chat, and the kinds that have completions get them as they are.
func TestDetours(t *testing.T) {
	t.Parallel()
	const body = `{"model":"m","prompt":"Hi","max_tokens":5,"stream":true}`
	want := map[*Kind]string{ // the requests that are not completions
		Anthropic: `https://api.anthropic.com/v1/messages {"model":"there","stream":true,"max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`,
		Gemini:    `https://generativelanguage.googleapis.com/v1beta/openai/chat/completions {"model":"there","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Hi"}],"stream_options":{"include_usage":true}}`,
		Groq:      `https://api.groq.com/openai/v1/chat/completions {"model":"there","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Hi"}],"stream_options":{"include_usage":true}}`,
		Mistral:   `https://api.mistral.ai/v1/chat/completions {"model":"there","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`,
		DeepSeek:  `https://api.deepseek.com/v1/chat/completions {"model":"there","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Hi"}],"stream_options":{"include_usage":true}}`,
		XAI:       `https://api.x.ai/v1/chat/completions {"model":"there","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Hi"}],"stream_options":{"include_usage":true}}`,
	}
	for _, kind := range Kinds {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			for _, name := range kind.lacks {
				if e, ok := openai.LookupEndpoint("/v1/" + name); !ok || e.Name != name {
					t.Errorf("%q is no endpoint", name)
				}
			}
			if kind.ServiceBase == "" || kind.BuiltIn() {
				return
			}
			u := serviceOf(t, kind, "")
			template := templateOf(t, "/v1/completions", body)
			if err := u.Prepare(template, "there"); err != nil {
				t.Fatal(err)
			}
			req := u.NewRequest(t.Context(), template, u.Replicas[0], "there")
			want, ok := want[kind]
			if !ok {
				want = kind.ServiceBase + `/completions {"model":"there","prompt":"Hi","max_tokens":5,"stream":true,"stream_options":{"include_usage":true}}`
			}
			if diff := cmp.Diff(want, req.URL.String()+" "+sent(t, req)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A transport may still send the request when the gateway has given it up. It must not send the memory of another request then.
func TestDetourHoldsItsRequest(t *testing.T) {
	t.Parallel()
	u := serviceOf(t, Groq, "")
	template := templateOf(t, "/v1/completions", `{"model":"m","prompt":"Hi"}`)
	if err := u.Prepare(template, "there"); err != nil {
		t.Fatal(err)
	}
	req := u.NewRequest(t.Context(), template, u.Replicas[0], "there")
	template.Release()
	body, err := io.ReadAll(req.Body)
	if diff := cmp.Diff(`{"model":"there","messages":[{"role":"user","content":"Hi"}]}`, string(body)); err != nil || diff != "" {
		t.Error(err, diff)
	}
	req.Body.Close()
	again, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(again); err == nil {
		t.Errorf("after the end of the request, it could be read as %s", body)
	}
}

// After a target without completions, one that has them gets the client's request.
func TestDetourEnds(t *testing.T) {
	t.Parallel()
	template := templateOf(t, "/v1/completions", `{"model":"m","prompt":"Hi"}`)
	for _, tt := range []struct {
		kind *Kind
		want string
	}{
		{Groq, `{"model":"there","messages":[{"role":"user","content":"Hi"}]}`}, {OpenAI, `{"model":"there","prompt":"Hi"}`},
		{Anthropic, `{"model":"there","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`}, {OpenAI, `{"model":"there","prompt":"Hi"}`},
	} {
		u := serviceOf(t, tt.kind, "")
		if err := u.Prepare(template, "there"); err != nil {
			t.Fatal(err)
		}
		if got := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], "there")); got != tt.want {
			t.Errorf("%s got %s", tt.kind.Name, got)
		}
	}
}

// However a stream of chat arrives, split at any byte, and however it is read, it becomes the same completion.
func TestCompletionsInPieces(t *testing.T) {
	t.Parallel()
	dialecttest.EachStream(t, "completion-stream", func(t *testing.T, in, golden []byte) {
		u := serviceOf(t, Groq, "")
		template := templateOf(t, "/v1/completions", `{"model":"m","stream":true,"prompt":"Hi"}`)
		if err := u.Prepare(template, "m"); err != nil {
			t.Fatal(err)
		}
		translated := func(body io.Reader, read func(io.Reader) io.Reader) []byte {
			res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1}
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
		in, golden = append([]byte(": hello\n\n"), in...), append([]byte(": hello\n\n"), golden...)
		for i := range in {
			got := translated(io.MultiReader(bytes.NewReader(in[:i]), bytes.NewReader(in[i:])), iotest.HalfReader)
			if !bytes.Equal(got, golden) {
				t.Fatalf("split at byte %d: %s", i, cmp.Diff(string(golden), string(got)))
			}
		}
	})
}
