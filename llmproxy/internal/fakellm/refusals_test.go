package fakellm

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestRefusals compares the refusals with the errors of the real servers, as captured or documented.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const ollamaBusy = `{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}` + "\n"
	tests := []struct {
		name, kind string
		answer     Answer
		status     int
		body       string // begins with
	}{
		{"busy", "ollama", Busy(), 503, ollamaBusy},
		{"busy", "llamacpp", Busy(), 503, `{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}`},
		{"busy", "vllm", Busy(), 503, `{"error":{"message":"The request queue is full. Please retry later.","type":"Service Unavailable","param":null,"code":503}}`},
		{"busy", "openai", Busy(), 503, "{\n    \"error\": {\n        \"message\": \"The engine is currently overloaded"},
		{"loading", "llamacpp", Loading(), 503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`},
		{"loading", "openai", Loading(), 503, "{\n"},
		{"unknown model", "ollama", UnknownModel(), 404, `{"error":{"message":"model 'tiny' not found","type":"not_found_error","param":null,"code":null}}`},
		{"unknown model", "vllm", UnknownModel(), 404, "{\"error\":{\"message\":\"The model `tiny` does not exist. Valid aliases: tiny.\",\"type\":\"NotFoundError\",\"param\":\"model\",\"code\":404}}"},
		{"unknown model", "llamacpp", UnknownModel(), 400, `{"error":{"code":400,"message":"model 'tiny' not found","type":"invalid_request_error"}}`},
		{"unknown model", "openai", UnknownModel(), 404, "{\n    \"error\": {\n        \"message\": \"The model `tiny` does not exist"},
		{"too long", "llamacpp", TooLong(), 400, `{"error":{"code":400,"message":"request (20010 tokens) exceeds the available context size (2048 tokens)`},
		{"too long", "ollama", TooLong(), 400, `{"error":{"message":"{\"error\":{\"code\":400,\"message\":\"request (20010 tokens) exceeds`},
		{"too long", "vllm", TooLong(), 400, `{"error":{"message":"This model's maximum context length is 4096 tokens. However, your prompt contains at least`},
		{"output too long", "vllm", OutputTooLong(), 400, `{"error":{"message":"max_tokens=100000 cannot be greater`},
		{"output too long is no error", "ollama", OutputTooLong(), 200, `{"id":"chatcmpl-1"`},
		{"output too long is no error", "llamacpp", OutputTooLong(), 200, `{"choices":[{"finish_reason":"length"`},
		{"no tools", "ollama", NoTools(), 400, `{"error":{"message":"registry.ollama.ai/library/tiny does not support tools","type":"invalid_request_error"`},
		{"internal", "ollama", InternalError(), 500, `{"error":{"message":"model runner has unexpectedly stopped`},
		{"internal", "vllm", InternalError(), 500, `{"error":{"message":"EngineCore`},
		{"unauthorized", "llamacpp", Unauthorized(), 401, `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`},
		{"unauthorized", "vllm", Unauthorized(), 401, `{"error":"Unauthorized"}`},
		{"rate limit", "openai", RateLimited(), 429, `{"error":{"message":"Rate limit reached`},
		{"rate limit", "ollama", RateLimited(), 429, `{"error":{"message":"Rate limit reached`},
		{"quota", "openai", NoQuota(), 429, `{"error":{"message":"You exceeded your current quota`},
		{"any status", "ollama", Status(529), 529, `{"error":{"message":"scripted status 529"`},
		{"any status", "openai", Status(502, "X-A", "b"), 502, "{\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name+", "+tt.kind, func(t *testing.T) {
			t.Parallel()
			s := Start(t, tt.kind)
			s.Always(tt.answer)
			resp := post(t, s, chatPath, chatBody)
			body := all(t, resp)
			if resp.StatusCode != tt.status || !strings.HasPrefix(body, tt.body) || !json.Valid([]byte(body)) {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if tt.status == http.StatusOK {
				return
			}
			if streamed := post(t, s, chatPath, streamBody); streamed.StatusCode != tt.status || all(t, streamed) != body {
				t.Errorf("a stream is refused differently: %d", streamed.StatusCode)
			}
			if closes := resp.Close; closes != (tt.kind == "llamacpp") {
				t.Errorf("connection closed: %t", closes)
			}
		})
	}
}

// vLLM does not listen while it loads. A reset connection comes closest to that.
func TestLoadingVLLM(t *testing.T) {
	t.Parallel()
	s := Start(t, "vllm")
	s.Next(Loading())
	if resp, err := try(t, s, chatPath, chatBody); err == nil {
		t.Errorf("got status %d, want none", resp.StatusCode)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := Start(t, "openai")
	s.Next(RateLimited().With("Retry-After", "7", "X-Request-Id", ""), Text())
	h := post(t, s, chatPath, chatBody).Header
	if h.Get("Retry-After") != "7" || h.Values("X-Request-Id") != nil || h.Get("Openai-Version") == "" {
		t.Errorf("got %v", h)
	}
	if h := post(t, s, chatPath, chatBody).Header; h.Get("Retry-After") != "" || h.Get("X-Request-Id") == "" {
		t.Errorf("the next answer has %v", h)
	}
}

// TestBadRequests checks how the kinds refuse invalid requests.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, kind, method, path, body string
		status                         int
		has                            string
	}{
		{"broken JSON", "openai", "POST", chatPath, `{"model":`, 400, "could not parse"},
		{"broken JSON", "vllm", "POST", chatPath, `{"model":`, 400, "json_invalid"},
		{"no model", "openai", "POST", chatPath, `{"messages":[{}]}`, 400, "you must provide a model"},
		{"no model", "vllm", "POST", chatPath, `{"messages":[{}]}`, 200, `"model":"tiny"`},
		{"no messages", "openai", "POST", chatPath, `{"model":"tiny"}`, 400, "missing_required_parameter"},
		{"no messages", "vllm", "POST", chatPath, `{"model":"tiny","messages":null}`, 400, "Field required"},
		{"other model", "openai", "POST", chatPath, `{"model":"other","messages":[{}]}`, 404, "`other`"},
		{"other model", "vllm", "POST", chatPath, `{"model":"other","messages":[{}]}`, 404, "`other`"},
		{"tag latest", "ollama", "POST", chatPath, `{"model":"tiny:latest","messages":[{}]}`, 200, "tiny:latest"},
		{"broken form", "openai", "POST", "/v1/audio/transcriptions", "", 400, "parse"},
		{"no such path", "openai", "POST", "/v1/nothing", "", 404, "Invalid URL (POST /v1/nothing)"},
		{"no such path", "vllm", "POST", "/v1/nothing", "", 404, `{"detail":"Not Found"}`},
		{"not of this kind", "ollama", "POST", "/v1/rerank", "{}", 404, "404 page not found"},
		{"not of this kind", "vllm", "POST", "/v1/audio/speech", "{}", 404, `{"detail":"Not Found"}`},
		{"wrong method", "openai", "GET", chatPath, "", 405, "Not allowed"},
		{"wrong method", "vllm", "GET", chatPath, "", 405, "Method Not Allowed"},
		{"wrong method", "vllm", "POST", "/health", "", 405, "Method Not Allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name+", "+tt.kind, func(t *testing.T) {
			t.Parallel()
			s := Start(t, tt.kind, Models("tiny"))
			var status int
			var body string
			if tt.method == http.MethodGet {
				status, body = get(t, s, tt.path)
			} else {
				resp := post(t, s, tt.path, tt.body)
				status, body = resp.StatusCode, all(t, resp)
			}
			if status != tt.status || !strings.Contains(body, tt.has) {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}
