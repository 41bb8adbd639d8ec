package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// answering answers every request with the same JSON.
type answering string

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: http.StatusOK, Header: header, ContentLength: int64(len(a)), Body: io.NopCloser(strings.NewReader(string(a))), Request: req}, nil
}

// An answer of 1 KB from an upstream with OpenAI's chat, for clients of each API.
func BenchmarkClients(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 23)
	answer := answering(fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":99,"total_tokens":108}}`, text))
	base, err := url.Parse("http://upstream/v1")
	if err != nil {
		b.Fatal(err)
	}
	u := upstream.New(upstream.Config{Name: "u", Kind: upstream.DeepSeek, Bases: []*url.URL{base}, Transport: answer}) // which has chat only
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}}})
	if err != nil {
		b.Fatal(err)
	}
	g := New(Config{Config: delivery.Config{Upstreams: []*upstream.Upstream{u}}, Models: table})
	defer g.Close()
	for _, client := range []struct{ name, path, body string }{
		{"OpenAI", chatPath, `{"messages":[{"role":"user","content":"` + text + `"}],"model":"m"}`},
		{"Anthropic", "/v1/messages", `{"messages":[{"role":"user","content":"` + text + `"}],"model":"m","max_tokens":4096}`},
		{"Responses", "/v1/responses", `{"input":"` + text + `","model":"m"}`},
		{"Ollama", "/api/chat", `{"messages":[{"role":"user","content":"` + text + `"}],"model":"m","stream":false}`},
	} {
		task, ok := TaskOf(client.path)
		if !ok {
			b.Fatalf("%s is not served", client.path)
		}
		b.Run(client.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				g.Serve(w, httptest.NewRequest(http.MethodPost, client.path, strings.NewReader(client.body)), task, &exchange.Record{})
				if w.Code != http.StatusOK || w.Body.Len() < len(text) {
					b.Fatalf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
}
