package llmproxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// The matcher works in front of other handlers, and each of them reads the body whole.
func TestLLMMatcherElsewhere(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := new(strings.Builder)
		if _, err := fmt.Fprint(body, r.ContentLength, " "); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 1<<20)
		for {
			n, err := r.Body.Read(buf)
			body.Write(buf[:n])
			if err != nil {
				break
			}
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(plain.Close)
	caddyfile, url := site(t, `	@short llm {
		prompt_tokens <100
		model auto gpt-*
		endpoint chat
	}
	handle @short {
		llm_proxy {
			upstream u openai `+fake.URL()+`
			model auto u/short
		}
	}
	reverse_proxy `+plain.URL)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	res, body := post(t, url, question("auto", "Hi"))
	if res.Header.Get("X-LLM-Target") != "u/short" || !strings.Contains(string(fake.Requests()[0].Body), `"content":"Hi"`) {
		t.Errorf("target %q, body %s", res.Header.Get("X-LLM-Target"), body)
	}
	for _, other := range []string{question("auto", strings.Repeat("word ", 1000)), strings.Replace(question("auto", "Hi"), "auto", "other", 1), "no JSON"} {
		if _, body := post(t, url, other); body != fmt.Sprintf("%d %s", len(other), other) {
			t.Errorf("the next handler got %.100s", body)
		}
	}
}

func TestMatchLLM(t *testing.T) {
	yes, no := true, false
	const body = `{"model":"gpt-4o","stream":true,"max_tokens":50,"tools":[{}],"messages":[{"role":"user","content":[{"type":"text","text":"My Password"},{"type":"image_url"}]}]}`
	for _, test := range []struct {
		name string
		m    MatchLLM
		want bool
	}{
		{"nothing asked", MatchLLM{}, true},
		{"all", MatchLLM{PromptTokens: ">700 <900", Messages: "=1", Tools: ">=1", Images: ">0", Audio: "<=0", MaxTokens: " > 49 < 51 ",
			JSONSchema: &no, Stream: &yes, Endpoint: []string{"embeddings", "chat"}, Model: []string{"claude*", "gpt-*"}, Content: "(?i)password"}, true},
		{"prompt", MatchLLM{PromptTokens: ">900"}, false},
		{"one of two comparisons", MatchLLM{PromptTokens: ">700 <701"}, false},
		{"tools", MatchLLM{Tools: "=0"}, false},
		{"schema", MatchLLM{JSONSchema: &yes}, false},
		{"stream", MatchLLM{Stream: &no}, false},
		{"endpoint", MatchLLM{Endpoint: []string{"embeddings"}}, false},
		{"model", MatchLLM{Model: []string{"gpt"}}, false},
		{"content", MatchLLM{Content: "password"}, false},
		{"an unknown key", MatchLLM{Key: []string{"alice"}}, false},
		{"key", MatchLLM{Key: []string{"bob"}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.m.Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(body))
			repl := caddy.NewReplacer()
			repl.Set("http.auth.user.id", "bob")
			r = caddyhttp.PrepareRequest(r, repl, httptest.NewRecorder(), &caddyhttp.Server{})
			if got := test.m.Match(r); got != test.want {
				t.Errorf("Match = %v", got)
			}
		})
	}
	if new(MatchLLM).Match(httptest.NewRequest(http.MethodGet, "/v1/models", nil)) {
		t.Error("a request without a body matches")
	}
	for _, bad := range []MatchLLM{{Tools: "1"}, {Tools: ">"}, {Tools: ">1x"}, {Tools: ">99999999999999999999"}, {Content: "("}} {
		if err := bad.Provision(caddy.Context{}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
