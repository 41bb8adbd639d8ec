package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// A counter is a request for tokens, or for their number, and what becomes of it.
type counter struct {
	name, fake string
	kind       *upstream.Kind
	path, body string
	answers    map[string]fakellm.Answer
	asked      []string // paths and bodies
	want       string
	estimated  bool
}

// prompt is what the imitated llama.cpp makes of any messages.
const prompt = `<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n`

func jsonAnswer(body string) fakellm.Answer {
	return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

// run starts the servers, sends the request, and compares what was asked and answered.
func (c *counter) run(t *testing.T) {
	fake := fakellm.Start(t, c.fake)
	for path, answer := range c.answers {
		fake.OnPath(path, answer)
	}
	s := &setup{t: t}
	s.up("u", c.kind, func(c *upstream.Config) { c.APIKey, c.Override.ContextWindow = "sk-up", 8192 }, fake.URL())
	s.serve("m u/x")
	got := s.post(c.path, c.body)
	if diff := cmp.Diff(c.want, got.body); diff != "" || got.status != http.StatusOK {
		t.Errorf("status %d %s", got.status, diff)
	}
	if estimated := got.header.Get("X-Llm-Estimated") == "true"; estimated != c.estimated {
		t.Errorf("estimated %v", estimated)
	}
	var asked []string
	for _, r := range append(fake.Requests(), fake.Probes()...) {
		switch r.Path {
		case "/tokenize", "/apply-template", countPath, "/v1/responses/input_tokens": // others ask what the models can do, whenever that is old
			asked = append(asked, r.Path+" "+string(r.Body))
		}
	}
	if diff := cmp.Diff(c.asked, asked); diff != "" {
		t.Error(diff)
	}
	if rec := s.record(); rec.Cost != 0 || rec.HasUsage || rec.Target != map[bool]string{false: "u/x"}[c.estimated] {
		t.Errorf("cost %v, usage %v, target %q", rec.Cost, rec.HasUsage, rec.Target)
	}
}

// The tokens of a text or a conversation come from the server that has the model; without such a server, their number is estimated.
func TestTokenize(t *testing.T) {
	t.Parallel()
	const text, messages = `{"model":"m","prompt":"Hi"}`, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`
	const vllmAnswer = `{"count":2,"max_model_len":4096,"tokens":[72,105],"token_strs":null}`
	pieces := map[string]fakellm.Answer{"/tokenize": jsonAnswer(`{"tokens":[{"id":72,"piece":"H"},{"id":255,"piece":[195]}]}`)}
	for _, c := range []counter{
		{"vLLM", "vllm", upstream.VLLM, "/tokenize", `{"model":"m","prompt":"Hi","add_special_tokens":false}`, nil, []string{`/tokenize {"model":"x","prompt":"Hi","add_special_tokens":false}`}, vllmAnswer, false},
		{"vLLM, messages", "vllm", upstream.VLLM, "/v1/tokenize", messages, nil, []string{`/tokenize {"model":"x","messages":[{"role":"user","content":"Hi"}]}`}, vllmAnswer, false},
		{"vLLM, as llama.cpp's clients ask", "vllm", upstream.VLLM, "/tokenize", `{"model":"m","content":"Hi","with_pieces":true}`, nil, []string{`/tokenize {"model":"x","prompt":"Hi","return_token_strs":true,"add_special_tokens":false}`}, vllmAnswer, false},
		{"llama.cpp", "llamacpp", upstream.LlamaCpp, "/tokenize", text, nil, []string{`/tokenize {"model":"x","content":"Hi","add_special":true,"with_pieces":false}`}, `{"count":2,"max_model_len":8192,"tokens":[72,105],"token_strs":null}`, false},
		{"llama.cpp, in its own language", "llamacpp", upstream.LlamaCpp, "/tokenize", `{"model":"m","content":"Hi","with_pieces":true}`, pieces, []string{`/tokenize {"model":"x","content":"Hi","add_special":false,"with_pieces":true}`}, `{"count":2,"max_model_len":8192,"tokens":[{"id":72,"piece":"H"},{"id":255,"piece":[195]}],"token_strs":null}`, false},
		{"llama.cpp, with texts", "llamacpp", upstream.LlamaCpp, "/tokenize", `{"model":"m","prompt":"Hi","return_token_strs":true}`, pieces, []string{`/tokenize {"model":"x","content":"Hi","add_special":true,"with_pieces":true}`}, `{"count":2,"max_model_len":8192,"tokens":[72,255],"token_strs":["H",[195]]}`, false},
		{"llama.cpp, messages", "llamacpp", upstream.LlamaCpp, "/tokenize", messages, nil, []string{`/apply-template {"model":"x","messages":[{"role":"user","content":"Hi"}]}`, `/tokenize {"model":"x","content":"` + prompt + `","add_special":true,"with_pieces":false}`}, `{"count":2,"max_model_len":8192,"tokens":[72,105],"token_strs":null}`, false},
		{"Anthropic", "anthropic", upstream.Anthropic, "/tokenize", text, nil, []string{`/v1/messages/count_tokens {"model":"x","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`}, `{"count":14,"max_model_len":8192,"tokens":null,"token_strs":null}`, false},
		{"OpenAI", "openai", upstream.OpenAI, "/tokenize", text, nil, nil, `{"count":1,"max_model_len":8192,"tokens":null,"token_strs":null}`, true},
		{"Ollama, in llama.cpp's language", "ollama", upstream.Ollama, "/tokenize", `{"model":"m","content":"Hi there, you"}`, nil, nil, `{"count":4,"max_model_len":8192,"tokens":null,"token_strs":null}`, true},
		{"vLLM fails", "vllm", upstream.VLLM, "/tokenize", text, map[string]fakellm.Answer{"/tokenize": fakellm.Status(500)}, []string{`/tokenize {"model":"x","prompt":"Hi"}`}, `{"count":1,"max_model_len":8192,"tokens":null,"token_strs":null}`, true},
		{"an answer without tokens", "llamacpp", upstream.LlamaCpp, "/tokenize", text, map[string]fakellm.Answer{"/tokenize": jsonAnswer(`{}`)}, []string{`/tokenize {"model":"x","content":"Hi","add_special":true,"with_pieces":false}`}, `{"count":1,"max_model_len":8192,"tokens":null,"token_strs":null}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// The tokens of a request for the Responses API are counted by OpenAI and Azure, by the tokenizer of a local server, or by Anthropic.
func TestInputTokens(t *testing.T) {
	t.Parallel()
	const path, body = "/v1/responses/input_tokens", `{"model":"m","instructions":"Be brief.","input":"Hi","max_output_tokens":5}`
	const chat = `"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]`
	exactly := func(n string) string { return `{"object":"response.input_tokens","input_tokens":` + n + `}` }
	passed := path + " " + strings.Replace(body, `"m"`, `"x"`, 1)
	for _, c := range []counter{
		{"OpenAI", "openai", upstream.OpenAI, path, body, map[string]fakellm.Answer{path: jsonAnswer(`{"object":"response.input_tokens","input_tokens":11,"new":1}`)}, []string{passed}, `{"object":"response.input_tokens","input_tokens":11,"new":1}`, false},
		{"a compatible service without it", "openai", upstream.OpenAI, path, body, map[string]fakellm.Answer{path: fakellm.Status(404)}, []string{passed}, exactly("3"), true},
		{"OpenAI is overloaded", "openai", upstream.OpenAI, path, body, map[string]fakellm.Answer{path: fakellm.Busy()}, []string{passed}, exactly("3"), true},
		{"vLLM", "vllm", upstream.VLLM, path, body, nil, []string{`/tokenize {"model":"x","max_tokens":5,` + chat + `}`}, exactly("2"), false},
		{"llama.cpp", "llamacpp", upstream.LlamaCpp, path, body, nil, []string{`/apply-template {"model":"x","max_tokens":5,` + chat + `}`, `/tokenize {"model":"x","content":"` + prompt + `","add_special":true,"with_pieces":false}`}, exactly("2"), false},
		{"Anthropic", "anthropic", upstream.Anthropic, path, body, nil, []string{`/v1/messages/count_tokens {"model":"x","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"system":[{"type":"text","text":"Be brief."}]}`}, exactly("14"), false},
		{"Gemini", "openai", upstream.Gemini, path, body, nil, nil, exactly("3"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

// An invalid request is an error that says what to send, and one that the server refuses has the server's words.
func TestTokenizeErrors(t *testing.T) {
	t.Parallel()
	fake := fakellm.Start(t, "vllm")
	fake.OnPath("/tokenize", fakellm.Raw(http.StatusBadRequest, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"add_generation_prompt must be a bool","type":"BadRequestError","param":null,"code":400}}`)))
	s := &setup{t: t}
	s.up("u", upstream.VLLM, nil, fake.URL())
	s.guarded(&keys.Entry{Name: "alice", Models: []string{"m"}})
	s.serve("m u/x", "other u/x")
	for _, tt := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"model":"m"}`, 400, "prompt: is missing; send a text as prompt, or messages"},
		{`{"model":"m","prompt":[1]}`, 400, "prompt: must be a text; send a request for each of several"},
		{`{"model":"m","messages":"Hi"}`, 400, "messages: must be a list of messages"},
		{`{"prompt":"Hi"}`, 400, `"param":"model"`},
		{`{"model":"m","prompt":"Hi","add_generation_prompt":1}`, 400, "add_generation_prompt must be a bool"},
		{`{"model":"other","prompt":"Hi"}`, 403, "model_not_allowed"},
	} {
		if got := s.post("/tokenize", tt.body, "Authorization", "Bearer secret-alice"); got.status != tt.status || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s: status %d: %s", tt.body, got.status, got.body)
		}
	}
	if got := s.get("/tokenize", "secret-alice"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d: %s", got.status, got.body)
	}
}

// Neither needs a slot: both are answered while all are taken.
func TestTokenizeTakesNoSlot(t *testing.T) {
	t.Parallel()
	s, release := slotTaken(t)
	defer release()
	for path, body := range map[string]string{"/tokenize": `{"model":"m","prompt":"Hi"}`, "/v1/responses/input_tokens": `{"model":"m","input":"Hi"}`} {
		if got := s.post(path, body); got.status != http.StatusOK || got.header.Get("X-Llm-Estimated") != "" {
			t.Errorf("%s: status %d, %v: %s", path, got.status, got.header, got.body)
		}
	}
	if r := s.upstreams[0].Replicas[0]; r.InFlight() != 1 || r.Waiting() != 0 {
		t.Errorf("%d slots are taken, %d requests wait", r.InFlight(), r.Waiting())
	}
}
