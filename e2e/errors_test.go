package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	g := fleetGateway(t)
	long := strings.Repeat("x", 6000) // the test models count a byte as a token
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		kind                     string // of the error
		code                     string
	}{
		{"unknown model", "POST", "/v1/chat/completions", `{"model":"nobody-has-this","messages":[]}`, 404, "invalid_request_error", "model_not_found"},
		// llama.cpp would have answered with the one model that it has.
		{"no model", "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`, 400, "invalid_request_error", "invalid_request"},
		// llama.cpp would have said 500, which is not the server's fault.
		{"malformed JSON", "POST", "/v1/chat/completions", `{"model":"llama-chat",`, 400, "invalid_request_error", "invalid_request"},
		{"wrong method", "GET", "/v1/chat/completions", "", 405, "invalid_request_error", "method_not_allowed"},
		{"somebody's files", "GET", "/v1/files", "", 404, "invalid_request_error", "not_found"},
		// An upstream's word on the request itself reaches the client, in a status that no SDK tries again.
		{"llama.cpp: context", "POST", "/v1/chat/completions", `{"model":"llama-chat","messages":[{"role":"user","content":"` + long + `"}]}`,
			400, "exceed_context_size_error", "400"},
		{"llama.cpp: context, stream", "POST", "/v1/chat/completions", `{"model":"llama-chat","stream":true,"messages":[{"role":"user","content":"` + long + `"}]}`,
			400, "exceed_context_size_error", "400"},
		{"llama.cpp: no embeddings here", "POST", "/v1/embeddings", `{"model":"llama-chat","input":"hi"}`, 400, "not_supported_error", "501"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := call(t, test.method, g.url+test.path, test.body)
			failure := answer.failure(t)
			if answer.status != test.status || failure.Type != test.kind || failure.Code != test.code || failure.Message == "" {
				t.Errorf("got %d %s, want %d, type %q, code %q", answer.status, answer.body, test.status, test.kind, test.code)
			}
		})
	}
}

// Ollama 0.11.4 cuts what is too long, silently; that is between it and its users.
func TestOllamaTruncates(t *testing.T) {
	g := fleetGateway(t)
	c := chat(t, g.url, `{"model":"ollama-chat","messages":[{"role":"user","content":"`+strings.Repeat("x", 6000)+`"}]}`).completion(t)
	if c.Usage == nil || c.Usage.PromptTokens != 4096 {
		t.Errorf("usage is %+v, want the context's 4096 tokens of a prompt of 6000", c.Usage)
	}
}

func TestNobodyThere(t *testing.T) {
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, directive(`
	llm_proxy {
		upstream gone llamacpp 127.0.0.1:PORT
		model gone gone/gone
	}`, "PORT", port))
	answer := chat(t, g.url, `{"model":"gone","messages":[{"role":"user","content":"hi"}]}`)
	failure := answer.failure(t)
	if answer.status != http.StatusServiceUnavailable || failure.Code != "no_upstream_available" || answer.header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, %s", answer.status, answer.header.Get("Retry-After"), answer.body)
	}
}
