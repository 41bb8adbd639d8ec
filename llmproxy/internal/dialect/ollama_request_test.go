package dialect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

type translation = func(*jsonspan.Object) ([]byte, *openai.Error)

// with returns a translation with options.
func with(o ChatOptions, f func(*jsonspan.Object, ChatOptions) ([]byte, *openai.Error)) translation {
	return func(r *jsonspan.Object) ([]byte, *openai.Error) { return f(r, o) }
}

func TestOllamaRequests(t *testing.T) {
	t.Parallel()
	var (
		all       = with(AllOptions, ChatFromOllama)
		strict    = with(ChatOptions{}, ChatFromOllama)
		local     = with(ChatOptions{TopK: true, Reasoning: true}, ChatFromOllama)
		generate  = with(AllOptions, ChatFromGenerate)
		generated = with(ChatOptions{}, ChatFromGenerate)
		embed     = with(AllOptions, EmbeddingsFromOllama)
	)
	for _, test := range []struct {
		name      string
		translate translation
		in, out   string
	}{
		{
			"a stream by default", all,
			`{"model":"m","messages":[{"role":"system","content":"S"},{"role":"User","content":"Hi \u00e9"}]}`,
			`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"system","content":"S"},{"role":"user","content":"Hi \u00e9"}]}`,
		},
		{
			"everything is kept for the pipeline", all,
			`{"model":"m","stream":false,"options":{"temperature":0.10,"num_ctx":9,"num_predict":7,"top_k":4,"stop":["a"],"seed":1,"repeat_penalty":1.5},"format":"json","think":true,"keep_alive":"5m","truncate":false,"logprobs":true,"top_logprobs":2,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"model":"m","stream":false,"temperature":0.10,"max_tokens":7,"top_k":4,"stop":["a"],"seed":1,"options":{"num_ctx":9,"repeat_penalty":1.5},"response_format":{"type":"json_object"},"think":true,"logprobs":true,"top_logprobs":2,"keep_alive":"5m","truncate":false,"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"other services get what they know", strict,
			`{"stream":false,"options":{"temperature":0.10,"num_ctx":9,"num_predict":7,"top_k":4},"format":{"type":"object"},"think":"max","keep_alive":-1,"messages":[{"role":"user","content":"Hi"}]}`,
			`{"stream":false,"temperature":0.10,"max_tokens":7,"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"}}},"think":"max","messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"no thinking, and no limit", local,
			`{"stream":false,"options":{"num_predict":-1,"min_p":0.1},"think":false,"format":"","messages":[{"role":"user","content":"Hi"}]}`,
			`{"stream":false,"min_p":0.1,"think":false,"messages":[{"role":"user","content":"Hi"}]}`,
		},
		{
			"images", all,
			`{"stream":false,"messages":[{"role":"user","content":"See","images":["` + png + `"]},{"role":"user","content":"","images":["` + png + `"]}]}`,
			`{"stream":false,"messages":[{"role":"user","content":[{"type":"text","text":"See"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]}]}`,
		},
		{
			"tools, calls without IDs and results by name", local,
			`{"stream":false,"tools":[{"function":{"name":"f"}},{"type":"function","function":{"name":"g"}}],"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"","thinking":"hm","tool_calls":[{"function":{"name":"f","arguments":{"x": 1}}},{"id":"own","function":{"index":1,"name":"g"}}]},{"role":"tool","tool_name":"g","content":"2","images":["` + png + `"]},{"role":"tool","content":"1"},{"role":"user","content":"Go on"}]}`,
			`{"stream":false,"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}],"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"call_0","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},{"id":"own","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"own","content":"2"},{"role":"tool","tool_call_id":"call_0","content":"1"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]},{"role":"user","content":"Go on"}]}`,
		},
		{
			"generate", generated,
			`{"model":"m","stream":false,"system":"S","prompt":"P","images":["` + png + `"],"raw":false,"suffix":"","context":[]}`,
			`{"model":"m","stream":false,"messages":[{"role":"system","content":"S"},{"role":"user","content":[{"type":"text","text":"P"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + png + `"}}]}]}`,
		},
		{
			"generate for the pipeline", generate,
			`{"model":"m","stream":false,"prompt":"P","suffix":"S","raw":true,"template":"T","context":[1,2]}`,
			`{"model":"m","stream":false,"raw":true,"template":"T","suffix":"S","context":[1,2],"messages":[{"role":"user","content":"P"}]}`,
		},
		{
			"embed", embed,
			`{"model":"m","input":["a","b"],"dimensions":8,"truncate":true,"keep_alive":0,"options":{"num_ctx":9}}`,
			`{"model":"m","dimensions":8,"input":["a","b"],"truncate":true,"keep_alive":0,"options":{"num_ctx":9}}`,
		},
		{"embeddings", with(ChatOptions{}, EmbeddingsFromOllama), `{"model":"m","prompt":"a","keep_alive":0}`, `{"model":"m","input":"a"}`},
		{
			"to Ollama: parameters", OllamaRequestFromChat,
			`{"model":"m","max_completion_tokens":7,"max_tokens":8,"temperature":0.50,"stop":"a","seed":1,"top_k":4,"repetition_penalty":1.1,"user":"u","logit_bias":{},"stream":true,"stream_options":{"include_usage":true},"reasoning_effort":"xhigh","keep_alive":"1h","num_ctx":5,"options":{"num_ctx":6,"num_gpu":1},"messages":[{"role":"developer","content":[{"type":"text","text":"A"},{"type":"text","text":"B"}]},{"role":"user","content":"Hi"}]}`,
			`{"model":"m","stream":true,"options":{"num_predict":7,"repeat_penalty":1.1,"stop":["a"],"temperature":0.50,"top_k":4,"seed":1,"num_ctx":5,"num_gpu":1},"think":"high","keep_alive":"1h","messages":[{"role":"system","content":"A\nB"},{"role":"user","content":"Hi"}]}`,
		},
		{
			"to Ollama: calls, results, images and thinking", OllamaRequestFromChat,
			`{"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","messages":[{"role":"user","content":[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"assistant","content":null,"reasoning":"hm","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"f","arguments":""}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"c","name":"g","content":[{"type":"text","text":"2"}]}]}`,
			`{"stream":false,"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Hi","images":["AAAA"]},{"role":"assistant","content":"","thinking":"hm","tool_calls":[{"id":"a","function":{"index":0,"name":"f","arguments":{"x":1}}},{"id":"b","function":{"index":1,"name":"f","arguments":{}}}]},{"role":"tool","content":"1","tool_name":"f","tool_call_id":"a"},{"role":"tool","content":"2","tool_name":"g","tool_call_id":"c"}]}`,
		},
		{
			"to Ollama: a schema, no tools and no thinking", OllamaRequestFromChat,
			`{"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none","reasoning_effort":"none","logprobs":true,"top_logprobs":3,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","refusal":"No"}]}`,
			`{"stream":false,"format":{"type":"object"},"think":false,"logprobs":true,"top_logprobs":3,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"No"}]}`,
		},
		{
			"to Ollama: embeddings", EmbedFromRequest,
			`{"model":"m","input":["a"],"dimensions":8,"encoding_format":"base64","user":"u","num_ctx":9}`,
			`{"model":"m","input":["a"],"dimensions":8,"options":{"num_ctx":9}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.translate(scan(t, test.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(indented(t, []byte(test.out)), indented(t, got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOllamaRequestsRefused(t *testing.T) {
	t.Parallel()
	var (
		chat     = with(ChatOptions{}, ChatFromOllama)
		generate = with(ChatOptions{}, ChatFromGenerate)
		embed    = with(ChatOptions{}, EmbeddingsFromOllama)
	)
	user := func(members string) string { return `{"messages":[{"role":"user","content":"Hi"}],` + members + `}` }
	one := func(message string) string { return `{"messages":[` + message + `]}` }
	for _, test := range []struct {
		name      string
		translate translation
		in, want  string
	}{
		{"another spelling", chat, user(`"Model":"m"`), `model: the key is spelled "Model"`},
		{"an escaped spelling", chat, user(`"mod\u0065l":"m"`), `model: the key is spelled`},
		{"a key twice", chat, user(`"think":true,"think":false`), "think: the key is there twice"},
		{"an option twice", chat, user(`"options":{"num_ctx":1,"num_ctx":2}`), "options.num_ctx: the key is there twice"},
		{"another spelling in a message", chat, one(`{"role":"user","Content":"Hi"}`), "messages.0.content: the key is spelled"},
		{"another spelling in a call", chat, one(`{"role":"assistant","tool_calls":[{"function":{"NAME":"f"}}]}`), "messages.0.tool_calls.0.function.name: the key is spelled"},
		{"no messages", chat, `{"messages":[]}`, "messages: is empty"},
		{"messages that are none", chat, `{"messages":1}`, "messages: must be a list"},
		{"invalid message", chat, one(`1`), "messages.0: must be an object"},
		{"unknown role", chat, one(`{"role":"robot","content":"Hi"}`), "messages.0.role: "},
		{"content that is a list", chat, one(`{"role":"user","content":[]}`), "messages.0.content: must be a string"},
		{"data that is no image", chat, one(`{"role":"user","images":["aGVsbG8="]}`), "messages.0.images.0: is not a base64 image"},
		{"images that are no list", chat, one(`{"role":"user","images":"x"}`), "messages.0.images: must be a list"},
		{"a call without a name", chat, one(`{"role":"assistant","tool_calls":[{"function":{}}]}`), "messages.0.tool_calls.0.function.name: is missing"},
		{"arguments that are a string", chat, one(`{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}`), "messages.0.tool_calls.0.function.arguments: must be an object"},
		{"a result without a call", chat, one(`{"role":"tool","content":"1"}`), "messages.0: no message before"},
		{"a stream that is neither", chat, user(`"stream":"yes"`), "stream: must be true or false"},
		{"options that are none", chat, user(`"options":[]`), "options: must be an object"},
		{"an unknown format", chat, user(`"format":"xml"`), "format: must be"},
		{"unknown thinking", chat, user(`"think":"a lot"`), "think: must be"},
		{"a tool without a function", chat, user(`"tools":[{}]`), "tools.0: must be"},
		{"tools that are none", chat, user(`"tools":"f"`), "tools: must be a list"},
		{"raw", generate, `{"prompt":"P","raw":true}`, "raw: only an Ollama server"},
		{"suffix", generate, `{"prompt":"P","suffix":"S"}`, "suffix: only an Ollama server"},
		{"template", generate, `{"prompt":"P","template":"T"}`, "template: only an Ollama server"},
		{"context", generate, `{"prompt":"P","context":[1]}`, "context: only an Ollama server"},
		{"a prompt that is a list", generate, `{"prompt":["P"]}`, "prompt: must be a string"},
		{"no input", embed, `{"model":"m"}`, "input: is missing"},
		{"input that is a number", embed, `{"input":1}`, "input: must be a string"},
		{"to Ollama: n", OllamaRequestFromChat, user(`"n":2`), "n: Ollama gives one answer"},
		{"to Ollama: no messages", OllamaRequestFromChat, `{"messages":[]}`, "messages: is empty"},
		{"to Ollama: no list", OllamaRequestFromChat, `{}`, "messages: must be a list"},
		{"to Ollama: invalid message", OllamaRequestFromChat, one(`1`), "messages.0: must be an object"},
		{"to Ollama: unknown role", OllamaRequestFromChat, one(`{"role":"robot"}`), "messages.0.role: "},
		{"to Ollama: an image by URL", OllamaRequestFromChat, one(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}`), "messages.0.content.0: Ollama does not fetch images"},
		{"to Ollama: invalid image", OllamaRequestFromChat, one(`{"role":"user","content":[{"type":"image_url","image_url":"x"}]}`), "messages.0.content.0: the URL of an image"},
		{"to Ollama: audio", OllamaRequestFromChat, one(`{"role":"user","content":[{"type":"input_audio"}]}`), "messages.0.content.0: a part of type"},
		{"to Ollama: invalid text", OllamaRequestFromChat, one(`{"role":"user","content":[{"type":"text"}]}`), "messages.0.content.0.text: must be a string"},
		{"to Ollama: a call without a name", OllamaRequestFromChat, one(`{"role":"assistant","tool_calls":[{"id":"a"}]}`), "messages.0.tool_calls.0.function.name: is missing"},
		{"to Ollama: arguments that are cut off", OllamaRequestFromChat, one(`{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}`), "messages.0.tool_calls.0.function.arguments: is not a JSON object"},
		{"to Ollama: tokens", EmbedFromRequest, `{"input":[1,2]}`, "input: must be a string or a list of strings"},
		{"to Ollama: no input", EmbedFromRequest, `{}`, "input: must be a string or a list of strings"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body, err := test.translate(scan(t, test.in))
			if err == nil {
				t.Fatalf("translated to %s", body)
			}
			if err.Status != 400 || !strings.HasPrefix(err.Message, test.want) {
				t.Errorf("status %d: %s", err.Status, err.Message)
			}
		})
	}
}

func TestLoadsOnly(t *testing.T) {
	t.Parallel()
	type loads struct{ Unload, OK bool }
	for in, want := range map[string]loads{
		`{"model":"m"}`: {false, true},
		`{"model":"m","messages":[],"keep_alive":0}`:                {true, true},
		`{"model":"m","prompt":"","keep_alive":"0"}`:                {true, true},
		`{"model":"m","keep_alive":"0s"}`:                           {true, true},
		`{"model":"m","keep_alive":0.0}`:                            {true, true},
		`{"model":"m","keep_alive":"0s later"}`:                     {false, true},
		`{"model":"m","keep_alive":-1}`:                             {false, true},
		`{"model":"m","keep_alive":"5m"}`:                           {false, true},
		`{"model":"m","prompt":"Hi","keep_alive":0}`:                {true, false},
		`{"model":"m","messages":[{"role":"user","content":"Hi"}]}`: {false, false},
		`{"model":"m","images":["x"]}`:                              {false, false},
	} {
		unload, ok := LoadsOnly(scan(t, in))
		if diff := cmp.Diff(want, loads{unload, ok}); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestRestrictOllama(t *testing.T) {
	t.Parallel()
	const in = `{"model":"m","keep_alive":-1,"num_ctx":9,"options":{"temperature":1,"num_ctx":9,"future":1,"num_gpu":0},"messages":[]}`
	for _, test := range []struct {
		name    string
		allowed []string
		want    string
	}{
		{"nothing", nil, `{"model":"m","options":{"temperature":1},"messages":[]}`},
		{"some", []string{"num_ctx", "future"}, `{"model":"m","num_ctx":9,"options":{"temperature":1,"num_ctx":9,"future":1},"messages":[]}`},
		{"all", []string{"num_ctx", "future", "num_gpu", "keep_alive"}, in},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var e jsonspan.Edit
			e.Reset(scan(t, in))
			RestrictOllama(&e, test.allowed)
			if diff := cmp.Diff(test.want, string(e.Bytes())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDefaultOllama(t *testing.T) {
	t.Parallel()
	type setting func(*jsonspan.Edit)
	def := func(name, value string) setting {
		return func(e *jsonspan.Edit) { DefaultOllama(e, name, []byte(value)) }
	}
	own := func(name, value string) setting {
		return func(e *jsonspan.Edit) { DefaultOllamaOwn(e, name, []byte(value)) }
	}
	drop := func(name string) setting { return func(e *jsonspan.Edit) { DropOllama(e, name) } }
	for _, test := range []struct {
		name     string
		in, want string
		set      setting
	}{
		{"in OpenAI's format", `{"model":"m"}`, `{"model":"m","num_ctx":9}`, def("num_ctx", "9")},
		{"which has the option", `{"options":{"num_ctx":1}}`, `{"options":{"num_ctx":1}}`, def("num_ctx", "9")},
		{"which has the member", `{"num_ctx":1}`, `{"num_ctx":1}`, def("num_ctx", "9")},
		{"in Ollama's own", `{"model":"m"}`, `{"model":"m","options":{"num_ctx":9}}`, own("num_ctx", "9")},
		{"beside other options", `{"options":{"seed":1}}`, `{"options":{"seed":1,"num_ctx":9}}`, own("num_ctx", "9")},
		{"which is there", `{"options":{"num_ctx":1}}`, `{"options":{"num_ctx":1}}`, own("num_ctx", "9")},
		{"under OpenAI's name", `{}`, `{"options":{"num_predict":9}}`, own("max_tokens", "9")},
		{"a member", `{}`, `{"keep_alive":"1h"}`, own("keep_alive", `"1h"`)},
		{"dropped", `{"seed":2,"options":{"seed":1,"top_k":3}}`, `{"options":{"top_k":3}}`, drop("seed")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var e jsonspan.Edit
			e.Reset(scan(t, test.in))
			test.set(&e)
			if diff := cmp.Diff(test.want, string(e.Bytes())); diff != "" {
				t.Error(diff)
			}
		})
	}
}
