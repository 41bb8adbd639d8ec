package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// The terminal of an agent shows nothing but the message, so it says what the upstream said, without secrets, addresses and the prompt.
func TestWhatTheUpstreamSaid(t *testing.T) {
	t.Parallel()
	html := func(body string) fakellm.Answer {
		return fakellm.Raw(http.StatusBadGateway, http.Header{"Content-Type": {"text/html"}}, []byte(body))
	}
	for _, test := range []struct {
		name   string
		answer fakellm.Answer
		status int
		says   string
	}{
		{"out of memory", raw(500, `{"error":{"message":"CUDA out of memory. Tried to allocate 2.00 GiB","type":"server_error"}}`), 502, `failed before it answered: status 500, \"CUDA out of memory. Tried to allocate 2.00 GiB\".`},
		{"a page", html("<html><head><title>502 Bad Gateway</title></head><body>nginx at 10.0.0.3</body></html>"), 502, `status 502, \"502 Bad Gateway\".`},
		{"a status alone", fakellm.Raw(500, http.Header{}, nil), 502, `failed before it answered: status 500.`},
		{"a rejected key", raw(401, `{"error":{"message":"Incorrect API key provided: upstream-secret","code":"invalid_api_key"}}`), 502, `rejected this gateway's API key: status 401. The operator`},
		{"no credit", raw(402, `{"error":{"message":"Insufficient credits. Add more at https://x.example/credits"}}`), 502, `refused this gateway's request: status 402, \"Insufficient credits. Add more at …\". The operator`},
		{"a used quota", raw(429, `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":"insufficient_quota"}}`), 502, `refused this gateway's request: status 429, \"You exceeded your current quota`},
		{"a forbidden model", raw(403, `{"error":{"message":"Project does not have access to model","code":"x"}}`), 502, `status 403, \"Project does not have access to model\". The operator`},
		{"an unknown model", raw(404, `{"error":"model 'real' not found"}`), 404, `does not have the model that this gateway asks it for: status 404, \"model 'real' not found\".`},
		{"a secret and an address", raw(500, `{"error":{"message":"worker upstream-secret at 10.0.0.3:8000 died"}}`), 502, `status 500, \"worker … at … died\".`},
		{"the prompt", raw(500, `{"error":{"message":"cannot tokenize 'a very private prompt'"}}`), 502, `status 500, \"cannot tokenize '…'\".`},
		{"the prompt in an event", fakellm.RawEvents(`data: {"error":{"message":"bad text: a very private prompt"}}`), 502, `failed before it answered: \"bad text: …\".`},
		{"an error of the request, whole", raw(400, `{"error":{"message":"bad text: a very private prompt","type":"invalid_request_error"}}`), 400, `"message":"bad text: a very private prompt"`},

		{"Azure's filter", raw(400, `{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"violence":{"filtered":true}}}}}`),
			400, `"type":"invalid_request_error","param":"prompt","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"violence":{"filtered":true}}}}`},
		{"OpenRouter's moderation", raw(403, `{"error":{"code":403,"message":"flagged","metadata":{"reasons":["violence"],"raw":"upstream-secret"}}}`), 403, `"metadata":{"reasons":["violence"]}}`},
		{"llama.cpp's context", raw(400, `{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":9001,"n_ctx":4096}}`), 400, `"n_prompt_tokens":9001,"n_ctx":4096}`},
		{"details of a failure of the server stay here", raw(500, `{"error":{"message":"oops","innererror":{"code":"x"},"n_ctx":4096}}`), 502, `"message":"The upstream \"u\" failed before it answered: status 500, \"oops\".","type":"server_error","param":null,"code":"upstream_error"}}`},
	} {
		for _, stream := range []string{"false", "true"} {
			t.Run(test.name+"/stream "+stream, func(t *testing.T) {
				t.Parallel()
				s, fake := one(t, "openai", func(c *upstream.Config) { c.APIKey = "upstream-secret" })
				fake.Always(test.answer)
				got := s.serve("m u/real").post("/v1/chat/completions", `{"model":"m","stream":`+stream+`,"messages":[{"role":"user","content":"a very private prompt"}]}`)
				if stream == "false" && strings.HasPrefix(test.name, "the prompt in an event") {
					return
				}
				if got.status != test.status || !strings.Contains(got.body, test.says) {
					t.Errorf("status %d, %s\nwant %d, %s", got.status, got.body, test.status, test.says)
				}
				if strings.Contains(got.body, "upstream-secret") || strings.Contains(got.body, "10.0.0.3") {
					t.Errorf("%s says too much", got.body)
				}
			})
		}
	}
}

// After the first content, too.
func TestWhatTheUpstreamSaidAfterTheCommit(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", func(c *upstream.Config) { c.APIKey = "upstream-secret" })
	fake.Always(fakellm.RawEvents(strings.TrimSpace(oneToken), `data: {"error":{"message":"worker upstream-secret at http://10.0.0.3:8000 died","type":"x","n_ctx":5}}`))
	got := s.serve("m u/real").post("/v1/chat/completions", chat("m", true))
	if want := oneToken + "data: " + told("worker … at … died", "x", "", "") + "\n\n"; got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}
