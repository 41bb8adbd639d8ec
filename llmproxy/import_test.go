package llmproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/litellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/survey"
)

// An importStep is a request to a gateway whose Caddyfile was made of a configuration of LiteLLM, and what must become of it.
type importStep struct {
	name   string
	before func(servers [3]*fakellm.Server) // before the request
	// The request: its path, the model, a whole body instead of the usual one, and header fields.
	path, model, body string
	header            []string

	// What must come of it: the status, if it is not 200; which server answered, from 1; and what that server got.
	status   int
	server   int
	asked    string   // the model
	at       string   // the path
	got      []string // header fields, as pairs
	lacks    []string // header fields
	contains []string // in the body
	answer   string   // in the answer
}

// imported is a configuration in testdata of the converter, the kinds of the servers that it names, and requests.
var imported = []struct {
	file  string
	kinds [3]string
	steps []importStep
}{
	{"first-steps", [3]string{"openai", "openai", "openai"}, []importStep{
		{name: "own server", model: "vllm-models", server: 3, asked: "facebook/opt-125m", at: "/v1/chat/completions", got: []string{"Authorization", "Bearer none"}},
		{name: "stream", model: "vllm-models", body: `{"model":"vllm-models","stream":true,"messages":[{"role":"user","content":"Hi"}]}`, server: 3, asked: "facebook/opt-125m", answer: "data: [DONE]"},
		{name: "without /v1", path: "/chat/completions", model: "vllm-models", server: 3, asked: "facebook/opt-125m", at: "/v1/chat/completions"},
		{name: "embeddings without /v1", path: "/embeddings", body: `{"model":"vllm-models","input":"a"}`, server: 3, asked: "facebook/opt-125m", at: "/v1/embeddings"},
		{name: "completions", path: "/v1/completions", body: `{"model":"vllm-models","prompt":"a"}`, server: 3, asked: "facebook/opt-125m"},
		{name: "Azure's older API", before: func(s [3]*fakellm.Server) { olderAzure(s); s[1].Down() }, model: "gpt-4o", server: 1, asked: "gpt-4o-eu", at: "/openai/deployments/gpt-4o-eu/chat/completions", got: []string{"Api-Key", "test-AZURE_API_KEY_EU"}, lacks: []string{"Authorization"}},
		{name: "Azure's newer API", before: func(s [3]*fakellm.Server) { s[0].Down() }, model: "gpt-4o", server: 2, asked: "gpt-4o-ca", at: "/openai/v1/chat/completions", got: []string{"Api-Key", "test-AZURE_API_KEY_CA"}},
		{name: "unknown model", model: "gpt-4o-eu", status: 404, answer: "model_not_found"},
	}},
	{"weights", [3]string{"vllm", "openai", "vllm"}, []importStep{
		{name: "weight 0", model: "never", server: 1, asked: "a"},
		{name: "weight 0 is left", before: down(1), model: "never", server: 3, asked: "b"},
		{name: "the other one of the pool", before: down(1), model: "chat", server: 2, asked: "gpt-4o-mini", got: []string{"Authorization", "Bearer sk-test-1111"}},
		{name: "the first one of the pool", before: down(2), model: "chat", server: 1, asked: "meta-llama/Llama-3.1-8B-Instruct", lacks: []string{"Authorization"}},
		{name: "failure within the pool", before: func(s [3]*fakellm.Server) { s[0].Always(fakellm.InternalError()) }, model: "even", server: 3, asked: "b"},
	}},
	{"fallbacks", [3]string{"vllm", "vllm", "anthropic"}, []importStep{
		{name: "no failure", model: "one", server: 1, asked: "one"},
		{name: "fallback", before: down(1), model: "one", server: 2, asked: "two"},
		{name: "fallback the other way", before: down(2), model: "two", server: 1, asked: "one"},
		{name: "fallback of the fallback", before: down(1, 2), model: "one", server: 3, asked: "claude-sonnet-4-5", at: "/v1/messages", got: []string{"X-Api-Key", "test-ANTHROPIC_API_KEY"}},
		{name: "default fallback", before: down(1), model: "other", server: 3, asked: "claude-sonnet-4-5"},
		{name: "default fallback of an error", before: func(s [3]*fakellm.Server) { s[0].Always(fakellm.InternalError()) }, model: "other", server: 3, asked: "claude-sonnet-4-5"},
		{name: "error of the client", before: func(s [3]*fakellm.Server) { s[0].Next(fakellm.Status(400)) }, model: "other", server: 1, status: 400},
		{name: "prompt that is too long", before: down(3), body: question("small", strings.Repeat("word ", 12_000)), server: 2, asked: "large-128k"},
		{name: "alias", model: "gpt-3.5-turbo", server: 1, asked: "small-8k"},
		{name: "alias in an object", model: "gpt-4", server: 2, asked: "large-128k"},
	}},
	{"wildcards", [3]string{"openai", "anthropic", "openai"}, []importStep{
		{name: "prefix", model: "openai/gpt-4o-mini", server: 1, asked: "gpt-4o-mini", got: []string{"Authorization", "Bearer test-OPENAI_API_KEY"}},
		{name: "prefix of another service", model: "anthropic/claude-haiku-4-5", server: 2, asked: "claude-haiku-4-5"},
		{name: "a part of a name", model: "my-claude-opus-4-5", server: 2, asked: "claude-opus-4-5"},
		{name: "everything else", model: "qwen/qwen3-coder", server: 3, asked: "qwen/qwen3-coder", at: "/api/v1/chat/completions"},
		{name: "exact name", model: "gpt-4o", server: 1, asked: "gpt-4o-2024-11-20"},
		{name: "fallback to a name that a pattern matches", before: down(1), model: "gpt-4o", server: 2, asked: "claude-sonnet-4-5"},
		{name: "no fallback of a pattern", before: down(1), model: "openai/gpt-4o-mini", status: 503},
	}},
	{"local-and-claude", [3]string{"ollama", "anthropic", "llamacpp"}, []importStep{
		{name: "Ollama by its own API", model: "llama", server: 1, asked: "llama3.1:8b", at: "/api/chat", contains: []string{`"num_ctx":16384`, `"keep_alive":"1h"`}},
		{name: "the model of another deployment there", model: "completion", server: 1, asked: "qwen3:4b", at: "/api/chat"},
		{name: "llamafile", model: "llamafile", server: 3, asked: "tiny", at: "/v1/chat/completions"},
		{name: "Claude by chat", model: "claude", server: 2, asked: "claude-sonnet-4-5", at: "/v1/messages", got: []string{"Anthropic-Beta", "context-1m-2025-08-07"}, contains: []string{`"max_tokens":2048`}},
		{name: "Claude by messages", path: "/v1/messages", body: `{"model":"claude","max_tokens":10,"messages":[{"role":"user","content":"Hi"}]}`, header: []string{"Anthropic-Version", "2023-06-01"},
			server: 2, asked: "claude-sonnet-4-5", at: "/v1/messages", contains: []string{`"max_tokens":10`}},
		{name: "Ollama by messages", path: "/v1/messages", body: `{"model":"llama","max_tokens":10,"messages":[{"role":"user","content":"Hi"}]}`, server: 1, asked: "llama3.1:8b", at: "/api/chat"},
		{name: "a deployment that was left out", model: "bedrock-claude", status: 404},
	}},
	{"order", [3]string{"openai", "openai", "openai"}, []importStep{
		{name: "first", model: "prod", server: 1, asked: "gpt-4.1", got: []string{"Authorization", "Bearer test-KEY_A"}},
		{name: "second", before: down(1), model: "prod", server: 2, asked: "gpt-4.1", got: []string{"Authorization", "Bearer test-KEY_B"}},
		{name: "third", before: down(1, 2), model: "prod", server: 3, asked: "gpt-4.1", got: []string{"Authorization", "Bearer test-KEY_C"}},
		{name: "refused for load", before: func(s [3]*fakellm.Server) { s[0].Always(fakellm.RateLimited()) }, model: "prod", server: 2, asked: "gpt-4.1"},
		{name: "key that is refused", before: func(s [3]*fakellm.Server) { s[0].Always(fakellm.Unauthorized()) }, model: "prod", server: 2, asked: "gpt-4.1"},
		{name: "all fail", before: down(1, 2, 3), model: "prod", status: 503},
	}},
	{"team", [3]string{"openai", "openai", "openai"}, []importStep{
		{name: "without a key", model: "gpt-4o", status: 401},
		{name: "another key", model: "gpt-4o", header: []string{"Authorization", "Bearer sk-other"}, status: 401},
		{name: "the master key", model: "gpt-4o", header: []string{"Authorization", "Bearer sk-hunter2-master"}, server: 1, asked: "gpt-4o", got: []string{"Authorization", "Bearer hunter2-openai", "Openai-Organization", "org-123"}},
		{name: "the master key in LiteLLM's header", model: "gpt-4o", header: []string{"X-Litellm-Key", "Bearer sk-hunter2-master"}, server: 1, asked: "gpt-4o", lacks: []string{"X-Litellm-Key"}},
		{name: "address that is not allowed", model: "gpt-4o", header: []string{"Authorization", "Bearer sk-hunter2-master", "X-Forwarded-For", "192.0.2.1"}, status: 403},
		{name: "address that is allowed", model: "gpt-4o", header: []string{"Authorization", "Bearer sk-hunter2-master", "X-Forwarded-For", "10.1.2.3"}, server: 1, asked: "gpt-4o"},
		{name: "body that is too long", body: question("gpt-4o", strings.Repeat("x", 3<<20)), header: []string{"Authorization", "Bearer sk-hunter2-master"}, status: 413},
		{name: "pass-through", path: "/v1/rank", body: `{"query":"a"}`, header: []string{"Authorization", "Bearer mine", "Cookie", "a=b"}, status: -1, server: 2, at: "/v2/rank", got: []string{"Authorization", "Bearer test-COHERE_API_KEY", "X-Source", "litellm"}, lacks: []string{"Cookie"}, contains: []string{`{"query":"a"}`}},
		{name: "pass-through below a path", path: "/bria/v1/images", body: `{}`, header: []string{"Authorization", "Bearer mine"}, status: -1, server: 2, at: "/v1/images", got: []string{"Authorization", "Bearer mine"}},
		{name: "liveliness without a key", path: "/health/liveliness", body: "GET", answer: ""},
		{name: "readiness without a key", path: "/health/readiness", body: "GET"},
		{name: "metrics", path: "/metrics", body: "GET", answer: "llm_requests_total"},
	}},
	{"cache", [3]string{"vllm", "vllm", "vllm"}, []importStep{
		{name: "first", model: "chat", server: 1, asked: "chat"},
		{name: "again, from the cache", model: "chat"},
		{name: "embeddings", path: "/v1/embeddings", body: `{"model":"embed","input":"a"}`, server: 1, asked: "embed"},
		{name: "embeddings are not stored", path: "/v1/embeddings", body: `{"model":"embed","input":"a"}`, server: 1, asked: "embed"},
	}},
	{"included", [3]string{"openai", "openai", "openai"}, []importStep{
		{name: "a model of the file itself", model: "chat", header: []string{"Authorization", "Bearer test-LITELLM_MASTER_KEY"}, server: 1, asked: "chat", got: []string{"Authorization", "Bearer test-HOSTED_KEY"}},
		{name: "an included model", path: "/v1/embeddings", body: `{"model":"embed","input":"a"}`, header: []string{"Authorization", "Bearer test-LITELLM_MASTER_KEY"}, server: 2, asked: "embed", got: []string{"Authorization", "Bearer test-HOSTED_KEY"}},
		{name: "an included key", model: "chat", status: 401},
	}},
	{"limits", [3]string{"vllm", "openai", "openai"}, []importStep{
		{name: "parameters", body: `{"model":"coder","logit_bias":{"1":2},"user":"u","messages":[{"role":"user","content":"1"}]}`, server: 1, asked: "Qwen/Qwen3-Coder-30B", contains: []string{`"chat_template_kwargs":{"enable_thinking":false}`, `"top_k":20`}},
		{name: "parameters of the client", body: `{"model":"coder","top_k":7,"messages":[{"role":"user","content":"2"}]}`, server: 1, asked: "Qwen/Qwen3-Coder-30B", contains: []string{`"top_k":7`}},
		{name: "the last one of the minute", model: "coder", server: 1, asked: "Qwen/Qwen3-Coder-30B"},
		{name: "more than rpm", model: "coder", status: 429, answer: "rate_limit_exceeded"},
		{name: "another model", path: "/v1/audio/transcriptions", body: "FORM", server: 2, at: "/v1/audio/transcriptions"},
	}},
}

// down returns a step that stops servers, by their numbers.
func down(numbers ...int) func([3]*fakellm.Server) {
	return func(servers [3]*fakellm.Server) {
		for _, n := range numbers {
			servers[n-1].Down()
		}
	}
}

// olderAzure lets the first server answer as a deployment of Azure's older API.
func olderAzure(servers [3]*fakellm.Server) {
	servers[0].OnPath("/openai/deployments/gpt-4o-eu/chat/completions",
		fakellm.Raw(http.StatusOK, nil, []byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`)))
}

// Configurations of LiteLLM become Caddyfiles that load, are formatted, and send requests where LiteLLM would.
func TestImportedConfigurations(t *testing.T) {
	count := 0
	for _, config := range imported {
		count += len(config.steps)
		t.Run(config.file, func(t *testing.T) {
			for _, step := range config.steps {
				if step.before != nil {
					t.Run(step.name, func(t *testing.T) { // the state of servers that failed would remain
						servers, url := runImported(t, config.file, config.kinds)
						step.before(servers)
						step.run(t, servers, url)
					})
				}
			}
			servers, url := runImported(t, config.file, config.kinds)
			for _, step := range config.steps {
				if step.before == nil {
					t.Run(step.name, func(t *testing.T) { step.run(t, servers, url) })
				}
			}
		})
	}
	if count < 60 {
		t.Errorf("only %d requests", count)
	}
}

// runImported converts a configuration for three servers and runs it.
func runImported(t *testing.T, file string, kinds [3]string) (servers [3]*fakellm.Server, url string) {
	t.Helper()
	for i, kind := range kinds {
		servers[i] = fakellm.Start(t, kind)
	}
	url = "http://" + freeport.Address(t)
	result, err := litellm.Convert(litellm.Options{File: "internal/litellm/testdata/" + file + ".yaml", Site: url, Read: func(name string) ([]byte, error) {
		text, err := os.ReadFile(filepath.FromSlash(name))
		for i, s := range servers {
			text = bytes.ReplaceAll(text, fmt.Appendf(nil, "127.0.0.1:1800%d", i+1), []byte(s.Addr()))
		}
		return text, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if formatted := caddyfile.Format([]byte(result.Caddyfile)); string(formatted) != result.Caddyfile {
		t.Errorf("the Caddyfile is not formatted:\n%s", result.Caddyfile)
	}
	for _, name := range []string{"AZURE_API_KEY_EU", "AZURE_API_KEY_CA", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "KEY_A", "KEY_B", "KEY_C", "COHERE_API_KEY", "HOSTED_KEY", "LITELLM_MASTER_KEY"} {
		t.Setenv(name, "test-"+name)
	}
	for _, s := range result.Secrets {
		t.Setenv(s.Name, s.Value)
	}
	comments, body, found := strings.Cut(result.Caddyfile, "\n{\n")
	if !found {
		comments, body, _ = strings.Cut(result.Caddyfile, "\n\n"+url)
		body = "}\n" + url + body
	}
	if err := load(t, comments+"\n"+strings.TrimSuffix(global, "}\n")+body); err != nil {
		t.Fatal(err)
	}
	return servers, url
}

func (s importStep) run(t *testing.T, servers [3]*fakellm.Server, url string) {
	t.Helper()
	var before [3]int
	for i, server := range servers {
		before[i] = len(server.Requests())
	}
	method, body, header := http.MethodPost, s.body, s.header
	switch body {
	case "":
		body = question(s.model, "Hi")
	case "GET":
		method, body = http.MethodGet, ""
	case "FORM":
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		w.WriteField("model", "whisper")
		file, err := w.CreateFormFile("file", "a.wav")
		if err != nil {
			t.Fatal(err)
		}
		file.Write([]byte("RIFF"))
		w.Close()
		body, header = form.String(), append(header, "Content-Type", w.FormDataContentType())
	}
	path := s.path
	if path == "" {
		path = "/v1/chat/completions"
	}
	res := send(t, newRequest(t, method, url+path, body, header...))
	answer := text(t, res)
	want := s.status
	if want == 0 {
		want = http.StatusOK
	}
	if want > 0 && res.StatusCode != want || !strings.Contains(answer, s.answer) {
		t.Fatalf("status %d, want %d with %q: %.500s", res.StatusCode, want, s.answer, answer)
	}
	for i, server := range servers {
		requests := server.Requests()[before[i]:]
		if i != s.server-1 {
			if len(requests) > 0 && s.before == nil {
				t.Errorf("server %d got %s as well", i+1, requests[0].Path)
			}
			continue
		}
		if len(requests) == 0 {
			t.Fatalf("server %d got no request; %s", s.server, res.Header.Get("X-LLM-Attempts"))
		}
		s.check(t, requests[len(requests)-1])
	}
}

// check checks what a server got.
func (s importStep) check(t *testing.T, r fakellm.Request) {
	t.Helper()
	var got struct{ Model string }
	if s.asked != "" && (json.Unmarshal(r.Body, &got) != nil || got.Model != s.asked) {
		t.Errorf("the server was asked for %q, want %q: %.300s", got.Model, s.asked, r.Body)
	}
	if s.at != "" && r.Path != s.at {
		t.Errorf("the server was asked at %s, want %s", r.Path, s.at)
	}
	for i := 0; i < len(s.got); i += 2 {
		if value := r.Header.Get(s.got[i]); value != s.got[i+1] {
			t.Errorf("%s is %q, want %q", s.got[i], value, s.got[i+1])
		}
	}
	for _, name := range s.lacks {
		if value := r.Header.Get(name); value != "" {
			t.Errorf("the server got %s: %s", name, value)
		}
	}
	for _, part := range s.contains {
		if !strings.Contains(string(r.Body), part) {
			t.Errorf("the request has no %s: %s", part, r.Body)
		}
	}
	for _, name := range []string{"logit_bias", `"user":`} {
		if s.name == "parameters" && strings.Contains(string(r.Body), name) {
			t.Errorf("the request has %s: %s", name, r.Body)
		}
	}
}

// Requests are balanced as LiteLLM's shuffle balances them. Each number may be six standard deviations off.
func TestImportedWeights(t *testing.T) {
	const n = 300
	for _, test := range []struct {
		file, model string
		kinds       [3]string
		want        [3]float64
	}{
		{"first-steps", "gpt-4o", [3]string{"openai", "openai", "openai"}, [3]float64{0.25, 0.75, 0}},
		{"weights", "chat", [3]string{"vllm", "openai", "vllm"}, [3]float64{0.9, 0.1, 0}},
		{"weights", "even", [3]string{"vllm", "openai", "vllm"}, [3]float64{0.5, 0, 0.5}},
		{"weights", "never", [3]string{"vllm", "openai", "vllm"}, [3]float64{1, 0, 0}},
	} {
		t.Run(test.file+"/"+test.model, func(t *testing.T) {
			servers, url := runImported(t, test.file, test.kinds)
			olderAzure(servers)
			for i := range n {
				if res, answer := post(t, url, question(test.model, fmt.Sprint(i))); res.StatusCode != http.StatusOK {
					t.Fatalf("status %d: %s", res.StatusCode, answer)
				}
			}
			for i, share := range test.want {
				got, want := float64(len(servers[i].Requests())), share*n
				if math.Abs(got-want) > 6*math.Sqrt(n*share*(1-share)) {
					t.Errorf("server %d got %v of %d requests, want about %v", i+1, got, n, want)
				}
			}
		})
	}
}

// The servers of a machine become a Caddyfile that loads, is formatted, and serves the models of all of them.
func TestDetectedServers(t *testing.T) {
	ollama := fakellm.Start(t, "ollama", fakellm.Models("llama3.1:8b", "nomic-embed-text:latest"))
	vllm := fakellm.Start(t, "vllm", fakellm.Models("org/model"))
	machine := survey.Machine{Getenv: func(string) string { return "" }, Run: func(context.Context, string, ...string) ([]byte, error) { return []byte("A GPU, 24000, 1\n"), nil }}
	found, err := machine.Look(t.Context(), []string{ollama.URL(), vllm.URL()})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + freeport.Address(t)
	text, err := found.Caddyfile(url, "caddy llm-import detect")
	if err != nil {
		t.Fatal(err)
	}
	if formatted := caddyfile.Format([]byte(text)); string(formatted) != text {
		t.Errorf("the Caddyfile is not formatted:\n%s", text)
	}
	_, body, _ := strings.Cut(text, "\n\n")
	if err := load(t, global+body); err != nil {
		t.Fatal(err)
	}
	for model, target := range map[string]string{"chat": "ollama/llama3.1:8b", "llama3.1:8b": "ollama/llama3.1:8b", "org/model": "vllm/org/model"} {
		res, answer := post(t, url, question(model, "Hi"))
		if res.StatusCode != http.StatusOK || res.Header.Get("X-LLM-Target") != target {
			t.Errorf("%s: status %d by %s: %s", model, res.StatusCode, res.Header.Get("X-LLM-Target"), answer)
		}
	}
}

// Whatever a text in the YAML is, the Caddyfile stays one: the text can neither end a line or a comment nor begin a block.
func TestImportedTextStaysText(t *testing.T) {
	t.Setenv("HOME", "/home/hunter2")
	texts := []string{"a b", "a\nimport /etc/passwd", "}", "{", "a}", "{$HOME}", "x{$HOME", "`", "\"", "a`\"b", "a\\", "\\", "#x", "a #b", "<<EOF", "import", "*", "a*b*c", "@x", "é\u2028b", "\x00", "{env.HOME}", "{http.vars.x}", "", " ", "(snippet)", "-x", "+x", "a\tb", "%"}
	places := []string{
		"model_list: [{model_name: %s, litellm_params: {model: openai/m, api_key: none}}]",
		"model_list: [{model_name: m, litellm_params: {model: %s, api_key: none}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_base: %s, api_key: none}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, organization: %s, api_key: none}}]",
		"model_list: [{model_name: m, litellm_params: {model: azure/m, api_base: \"https://a.openai.azure.com\", api_version: %s, api_key: none}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, extra_headers: {%s: a}}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, extra_headers: {X-A: %s}}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, %s: 1}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, stop: %s}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, additional_drop_params: [%s]}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none, ssl_verify: %s}, model_info: {id: %[1]s}}]",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\nrouter_settings: {model_group_alias: {%s: m}, fallbacks: [{m: [%[1]s]}, {%[1]s: [m]}]}",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\nlitellm_settings: {cache: true, callbacks: [%s], cache_params: {type: local, namespace: %[1]s, supported_call_types: [%[1]s]}}",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\nlitellm_settings: {cache: true, json_logs: true, cache_params: {type: redis, host: %s, port: %[1]s}}",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\ngeneral_settings: {litellm_key_header_name: %s, pass_through_endpoints: [{path: %[1]s, target: \"http://a\"}]}",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\ngeneral_settings: {pass_through_endpoints: [{path: /a, target: %s, methods: [%[1]s], headers: {X: %[1]s}}]}",
		"model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: none}}]\n%s: 1",
	}
	for _, place := range places {
		for _, text := range texts {
			quoted, err := json.Marshal(text) // which is YAML, too
			if err != nil {
				t.Fatal(err)
			}
			source := fmt.Sprintf(place, quoted)
			result, err := litellm.Convert(litellm.Options{File: "config.yaml", Read: func(string) ([]byte, error) { return []byte(source), nil }})
			if err != nil {
				t.Errorf("%s: %v", source, err)
				continue
			}
			config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(result.Caddyfile), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Errorf("%s: %v\n%s", source, err, result.Caddyfile)
			}
			if strings.Contains(string(config), "hunter2") {
				t.Errorf("%s: a variable was replaced", source)
			}
			if formatted := caddyfile.Format([]byte(result.Caddyfile)); string(formatted) != result.Caddyfile {
				t.Errorf("%s: the Caddyfile is not formatted:\n%s", source, result.Caddyfile)
			}
		}
	}
}
