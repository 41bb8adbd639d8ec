package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// OpenAI's Node SDK asks for base64 by itself and reads garbage out of the numbers that the OpenAI API of Ollama 0.11.4 sends all the
// same.
func TestEmbeddingsAreBase64WhereAskedFor(t *testing.T) {
	t.Parallel()
	list := func(vectors string) string {
		return `{"object":"list","data":[` + vectors + `],"usage":{"prompt_tokens":3}}`
	}
	vector := func(v string) string { return `{"object":"embedding","embedding":` + v + `,"index":0}` }
	many := strings.Repeat(vector(`[1]`)+",", 40_000) + vector(`[1]`) // more than is held
	for _, test := range []struct{ name, format, answer, want string }{
		{"numbers", `,"encoding_format":"base64"`, list(vector(`[1,2.5]`)), list(vector(`"AACAPwAAIEA="`))},
		{"base64", `,"encoding_format":"base64"`, list(vector(`"AACAPw=="`)), list(vector(`"AACAPw=="`))},
		{"a large answer", `,"encoding_format":"base64"`, list(many), list(strings.ReplaceAll(many, `[1]`, `"AACAPw=="`))},
		{"numbers asked for", `,"encoding_format":"float"`, list(vector(`[1]`)), list(vector(`[1]`))},
		{"nothing asked for", ``, list(vector(`[1]`)), list(vector(`[1]`))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "ollama", func(c *upstream.Config) { c.OpenAI = true })
			fake.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(test.answer)))
			got := s.serve("m u/x").post("/v1/embeddings", `{"model":"m","input":"hi"`+test.format+`}`)
			if got.status != http.StatusOK || got.err != nil || got.body != test.want {
				t.Errorf("status %d, error %v, %d bytes beginning %.200s", got.status, got.err, len(got.body), got.body)
			}
			if rec := s.record(); rec.Bytes != int64(len(test.want)) {
				t.Errorf("%d bytes in the record, want %d", rec.Bytes, len(test.want))
			}
		})
	}
}

func TestEmbeddingsThatAreNone(t *testing.T) {
	t.Parallel()
	bad := `{"data":[{"embedding":[1,null]}]}`
	first, second := fakellm.Start(t, "ollama"), fakellm.Start(t, "ollama")
	first.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(bad)))
	second.Always(fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(`{"data":[{"embedding":[1]}]}`)))
	s := &setup{t: t}
	openAI := func(c *upstream.Config) { c.OpenAI = true }
	s.up("a", upstream.Ollama, openAI, first.URL())
	s.up("b", upstream.Ollama, openAI, second.URL())
	s.serve("m a/x | b/x")
	got := s.post("/v1/embeddings", `{"model":"m","input":"hi","encoding_format":"base64"}`)
	if got.body != `{"data":[{"embedding":"AACAPw=="}]}` || got.header.Get("X-Llm-Route") != "fallback:failed" {
		t.Errorf("route %q, body %s", got.header.Get("X-Llm-Route"), got.body)
	}
}
