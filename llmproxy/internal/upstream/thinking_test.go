package upstream

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

var update = flag.Bool("update", false, "write the golden files")

// A said is what a client says about thinking: members of a request for one of the paths.
type said struct{ path, members string }

const (
	chatPath     = "/v1/chat/completions"
	messagesPath = "/v1/messages"
	ollamaPath   = "/api/chat"
)

// everyWish is what clients say, in each dialect.
var everyWish = []said{
	{chatPath, ``},
	{chatPath, `"reasoning_effort":"none"`},
	{chatPath, `"reasoning_effort":"minimal"`},
	{chatPath, `"reasoning_effort":"low"`},
	{chatPath, `"reasoning_effort":"high"`},
	{chatPath, `"reasoning_effort":"xhigh"`},
	{chatPath, `"reasoning_effort":"heroic"`},
	{chatPath, `"reasoning_effort":null`},
	{chatPath, `"thinking":{"type":"disabled"}`},
	{chatPath, `"thinking":{"type":"enabled"}`},
	{chatPath, `"chat_template_kwargs":{"enable_thinking":false}`},
	{chatPath, `"chat_template_kwargs":{"x":1},"reasoning_effort":"none"`},
	{chatPath, `"reasoning":{"enabled":false}`},
	{chatPath, `"enable_thinking":false`},
	{chatPath, `"think":false`},
	{messagesPath, `"temperature":1`},
	{messagesPath, `"thinking":{"type":"disabled"}`},
	{messagesPath, `"thinking":{"type":"enabled","budget_tokens":2048}`},
	{messagesPath, `"thinking":{"type":"enabled","budget_tokens":20000}`},
	{messagesPath, `"thinking":{"type":"adaptive"}`},
	{messagesPath, `"thinking":{"type":"adaptive"},"output_config":{"effort":"max"}`},
	{messagesPath, `"thinking":{"type":"disabled"},"output_config":{"effort":"low"}`},
	{ollamaPath, `"think":false`},
	{ollamaPath, `"think":true`},
	{ollamaPath, `"think":"high"`},
}

// asked returns the template of a request in which a client says something.
func asked(t testing.TB, s said) *Template {
	t.Helper()
	body := `{"model":"m","messages":[{"role":"user","content":"Hi"}]`
	if s.path == messagesPath && !strings.Contains(s.members, "max_tokens") {
		body += `,"max_tokens":40000`
	}
	if s.members != "" {
		body += "," + s.members
	}
	body += "}"
	if s.path == chatPath {
		return templateOf(t, chatPath, body)
	}
	return askedWith(t, s.path, body)
}

// askedWith returns the template of a client's request to an endpoint of another API than OpenAI's.
func askedWith(t testing.TB, path, body string) *Template {
	t.Helper()
	original := new(openai.Request)
	if err := original.Parse([]byte(body)); err != nil {
		t.Fatal(err)
	}
	clients, ok := openai.LookupEndpoint(path)
	if !ok {
		t.Fatalf("no endpoint %s", path)
	}
	own := dialect.EndpointOf(clients)
	chat, _, problem := own.Request(&original.Object, dialect.AllOptions)
	if problem != nil {
		t.Fatal(problem)
	}
	template := templateOf(t, chatPath, string(chat))
	template.Own, template.Original, template.Passable = own, original, true
	return template
}

// upstreamOf returns an upstream of a kind with a configuration.
func upstreamOf(t testing.TB, kind *Kind, change func(*Config)) *Upstream {
	t.Helper()
	address := kind.ServiceBase
	if address == "" {
		address = "http://127.0.0.1:8000"
	}
	base, err := kind.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Name: "u", Kind: kind, Bases: []*url.URL{base}, Replica: func(string) *replica.Replica { return new(replica.Replica) }}
	if change != nil {
		change(&c)
	}
	return New(c)
}

// wishSent returns what a request to a model says about thinking: its members but for those that all requests have.
func wishSent(t testing.TB, u *Upstream, template *Template, model string) string {
	t.Helper()
	if err := u.Prepare(template, model); err != nil {
		t.Fatal(err)
	}
	body := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], model))
	var o jsonspan.Object
	if err := o.Scan([]byte(body)); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	var members []string
	for _, m := range o.Members {
		key := string(m.Key.Of(o.Body))
		if !slices.Contains([]string{"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "options"}, key) {
			members = append(members, fmt.Sprintf("%q:%s", key, m.Value.Of(o.Body)))
		}
	}
	return strings.Join(members, ",")
}

// Every way in which a client controls thinking reaches every server and service in the words of that server. The golden file is the whole table.
func TestEveryWishAtEveryKind(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, at := range []struct {
		kind   *Kind
		model  string
		change func(*Config)
	}{
		{VLLM, "Qwen/Qwen3-8B", nil}, {VLLM, "openai/gpt-oss-20b", nil}, {LlamaCpp, "qwen3", nil}, {LlamaCpp, "gpt-oss-20b", nil},
		{Ollama, "qwen3:8b", nil}, {Ollama, "gpt-oss:20b", nil}, {Ollama, "qwen3:8b", func(c *Config) { c.OpenAI = true }},
		{OpenAI, "gpt-5", nil}, {Azure, "my-deployment", nil},
		{Gemini, "gemini-2.5-flash", nil}, {Gemini, "gemini-3-pro", nil}, {OpenRouter, "qwen/qwen3-32b", nil}, {Groq, "qwen/qwen3-32b", nil}, {Groq, "openai/gpt-oss-120b", nil},
		{Mistral, "mistral-small-latest", nil}, {DeepSeek, "deepseek-chat", nil}, {Together, "Qwen/Qwen3.5-9B", nil}, {Together, "openai/gpt-oss-20b", nil},
		{Fireworks, "accounts/fireworks/models/glm-5", nil}, {XAI, "grok-4", nil}, {Cerebras, "zai-glm-5", nil},
		{Anthropic, "claude-haiku-4-5", nil}, {Anthropic, "claude-opus-4-6", nil}, {Anthropic, "claude-opus-5", nil}, {Anthropic, "claude-3-5-haiku-latest", nil},
		{Anthropic, "claude-fable-5", nil}, {Anthropic, "glm-5", nil},
	} {
		u := upstreamOf(t, at.kind, at.change)
		api := ""
		if u.OpenAI {
			api = " (api openai)"
		}
		fmt.Fprintf(&b, "# %s%s: %s\n", at.kind.Name, api, at.model)
		for _, w := range everyWish {
			fmt.Fprintf(&b, "%-20s %-70s -> %s\n", w.path, w.members, wishSent(t, u, asked(t, w), at.model))
		}
		b.WriteByte('\n')
	}
	const file = "testdata/thinking.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("-want +got; if the change is wanted, run it with -update:\n%s", diff)
	}
}

// Errors about an effort, in the words of servers and services, and what a model then takes.
var effortRefusals = []struct {
	name   string
	said   thinking.Effort
	status int
	body   string
	takes  thinking.Efforts
}{
	{"openai: an older model", thinking.None, 400, `{"error":{"message":"Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: 'minimal', 'low', 'medium', and 'high'.","type":"invalid_request_error","param":"reasoning_effort","code":"unsupported_value"}}`, thinking.EffortsOf(thinking.Minimal, thinking.Low, thinking.Medium, thinking.High)},
	{"openai: a newer model", thinking.Minimal, 400, `{"error":{"message":"Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', 'low', 'medium', and 'high'.","type":"invalid_request_error","param":"reasoning_effort","code":"unsupported_value"}}`, thinking.EffortsOf(thinking.None, thinking.Low, thinking.Medium, thinking.High)},
	{"openai: one value", thinking.Low, 400, `{"error":{"message":"Unsupported value: 'low' is not supported with the 'gpt-5-pro' model. Supported values are: 'high'.","type":"invalid_request_error","param":"reasoning.effort","code":"unsupported_value"}}`, thinking.EffortsOf(thinking.High)},
	{"openai: a model that does not reason", thinking.Low, 400, `{"error":{"message":"Unrecognized request argument supplied: reasoning_effort","type":"invalid_request_error","param":null,"code":null}}`, thinking.EffortsOf()},
	{"openai: unsupported parameter", thinking.High, 400, `{"error":{"message":"Unsupported parameter: 'reasoning.effort' is not supported with this model.","type":"invalid_request_error","param":"reasoning.effort","code":"unsupported_parameter"}}`, thinking.EffortsOf()},
	{"vllm: gpt-oss", thinking.None, 400, `{"error":{"message":"reasoning_effort='none' is not supported by Harmony. Supported values are: high, medium, low.","type":"BadRequestError","param":"reasoning_effort","code":400}}`, thinking.EffortsOf(thinking.Low, thinking.Medium, thinking.High)},
	{"vllm 0.11", thinking.None, 400, `{"error":{"message":"1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", 'input': 'none', 'ctx': {'expected': \"'low', 'medium' or 'high'\"}}","type":"Bad Request","param":null,"code":400}}`, thinking.EffortsOf(thinking.Low, thinking.Medium, thinking.High)},
	{"vllm: Mistral", thinking.Medium, 400, `{"error":{"message":"reasoning_effort=medium is not supported by Mistral models. Supported values are: ['none', 'high'].","type":"BadRequestError","param":"reasoning_effort","code":400}}`, thinking.EffortsOf(thinking.None, thinking.High)},
	{"vllm: DeepSeek", thinking.Minimal, 400, `{"error":{"message":"DeepSeek V4.1 reasoning_effort must be low, high, xhigh, max, or an integer within [1, 100] in chat_template_kwargs","type":"BadRequestError","param":null,"code":400}}`, thinking.EffortsOf(thinking.Low, thinking.High, thinking.XHigh, thinking.Max)},
	{"ollama: a level", thinking.High, 400, `{"error":"think value \"high\" is not supported for this model"}`, thinking.EffortsOf(thinking.None, thinking.On)},
	{"ollama: no thinking", thinking.High, 400, `{"error":"\"llama3.1:8b\" does not support thinking"}`, thinking.EffortsOf()},
	{"ollama, /v1", thinking.Minimal, 400, `{"error":{"message":"invalid reasoning value: 'minimal' (must be \"high\", \"medium\", \"low\", or \"none\")","type":"invalid_request_error","param":null,"code":null}}`, thinking.EffortsOf(thinking.None, thinking.Low, thinking.Medium, thinking.High)},
	{"groq: no level", thinking.Low, 400, "{\"error\":{\"message\":\"`reasoning_effort` must be one of `none` or `default`\",\"type\":\"invalid_request_error\"}}", thinking.EffortsOf(thinking.None, thinking.On)},
	{"groq: no reasoning", thinking.Low, 400, "{\"error\":{\"message\":\"`reasoning_effort` is not supported with this model\",\"type\":\"invalid_request_error\"}}", thinking.EffortsOf(thinking.None, thinking.Minimal, thinking.Medium, thinking.High)},
	{"gemini: always thinks", thinking.None, 400, `[{"error":{"code":400,"message":"Budget 0 is invalid. This model only works in thinking mode.","status":"INVALID_ARGUMENT"}}]`, thinking.EffortsOf(thinking.Low, thinking.Medium, thinking.High)},
	{"mistral", thinking.High, 422, `{"detail":[{"type":"extra_forbidden","loc":["body","reasoning_effort"],"msg":"Extra inputs are not permitted","input":"high"}]}`, thinking.EffortsOf()},
	{"anthropic", thinking.High, 400, `{"type":"error","error":{"type":"invalid_request_error","message":"This model does not support the effort parameter."}}`, thinking.EffortsOf()},
	{"a word of a sentence is no value", thinking.High, 400, `{"error":{"message":"reasoning_effort: by default, this is off for gpt-5-high; see max_tokens"}}`, thinking.EffortsOf(thinking.None, thinking.Minimal, thinking.Low, thinking.Medium)},
}

func TestEffortRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range effortRefusals {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			template := &Template{said: tt.said}
			f, ok := template.refusal(tt.status, []byte(tt.body))
			if !ok || f.Verdict != router.Adjustable || f.takes != tt.takes {
				t.Errorf("%+v, %v; want %b", f, ok, tt.takes)
			}
		})
	}
}

// Other errors are the client's, and so is one about an effort that the request does not have.
func TestNoEffortRefusal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		said   thinking.Effort
		status int
		body   string
	}{
		{"no effort", thinking.Unsaid, 400, `{"error":{"message":"reasoning_effort is bad"}}`},
		{"another parameter", thinking.High, 400, `{"error":{"message":"temperature is too high"}}`},
		{"a limit", thinking.High, 429, `{"error":{"message":"too many requests with this reasoning_effort"}}`},
		{"a key", thinking.High, 401, `{"error":{"message":"reasoning_effort needs another plan"}}`},
		{"the reasoning of earlier turns", thinking.High, 400, `{"error":{"message":"The reasoning_content in the thinking mode must be passed back to the API."}}`},
		{"the thinking of earlier turns", thinking.High, 400, "{\"error\":{\"message\":\"Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block\"}}"},
	} {
		if f, ok := (&Template{said: tt.said}).refusal(tt.status, []byte(tt.body)); ok {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

func FuzzEffortRefusal(f *testing.F) {
	for _, tt := range effortRefusals {
		f.Add(tt.status, []byte(tt.body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for said := thinking.Unsaid; said <= thinking.On; said++ {
			if f, ok := (&Template{said: said}).refusal(status, body); ok && (f.takes == 0 || said == thinking.Unsaid) {
				t.Errorf("%d: %+v", said, f)
			}
		}
	})
}

// A server that refuses what a client wishes for is asked for the nearest that it takes, from then on at once.
func TestRefusedWish(t *testing.T) {
	t.Parallel()
	const noLevel, noThinking = `{"error":"think value \"high\" is not supported for this model"}`, `{"error":"\"m\" does not support thinking"}`
	for _, tt := range []struct {
		name   string
		kind   *Kind
		says   said
		errors []string // of the first requests
		sent   []string
	}{
		{"vllm, an effort", VLLM, said{chatPath, `"reasoning_effort":"none"`}, []string{effortRefusals[5].body},
			[]string{`"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":false,"thinking":false}`, `"reasoning_effort":"low","chat_template_kwargs":{"enable_thinking":false,"thinking":false}`}},
		{"vllm, Mistral's tokenizer", VLLM, said{messagesPath, `"thinking":{"type":"enabled","budget_tokens":9000}`}, []string{
			`{"error":{"message":"chat_template is not supported for Mistral tokenizers.","type":"BadRequestError","param":"chat_template","code":400}}`, effortRefusals[7].body,
		}, []string{`"reasoning_effort":"medium","chat_template_kwargs":{"enable_thinking":true,"thinking":true}`, `"reasoning_effort":"medium"`, `"reasoning_effort":"high"`}},
		{"ollama, a level, and then thinking", Ollama, said{chatPath, `"reasoning_effort":"high"`}, []string{noLevel, noThinking}, []string{`"think":"high"`, `"think":true`, ``}},
		{"openai, a client's own effort", OpenAI, said{chatPath, `"reasoning_effort":"minimal"`}, []string{effortRefusals[1].body}, []string{`"reasoning_effort":"minimal"`, `"reasoning_effort":"none"`}},
		{"openai, a model that does not reason", OpenAI, said{messagesPath, `"thinking":{"type":"disabled"}`}, []string{effortRefusals[3].body}, []string{`"reasoning_effort":"none"`, ``}},
		{"groq, asked in vain twice", Groq, said{chatPath, `"reasoning_effort":"none"`}, []string{effortRefusals[13].body, effortRefusals[13].body}, []string{`"reasoning_effort":"none"`, `"reasoning_effort":"low"`, ``}},
		{"anthropic, an unknown model", Anthropic, said{chatPath, `"reasoning_effort":"high"`}, []string{
			`{"type":"error","error":{"type":"invalid_request_error","message":"adaptive thinking is not supported on this model"}}`, effortRefusals[16].body,
		}, []string{`"output_config":{"effort":"high"},"thinking":{"type":"adaptive"}`, `"output_config":{"effort":"high"}`, ``}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamOf(t, tt.kind, nil)
			template := asked(t, tt.says)
			for i, want := range tt.sent {
				if got := wishSent(t, u, template, "claude-opus-9"); got != want {
					t.Fatalf("request %d says %s, want %s", i, got, want)
				}
				if i == len(tt.errors) {
					break
				}
				f := u.ClassifyAnswer(template, 400, nil, []byte(tt.errors[i]))
				if f.Verdict != router.Adjustable {
					t.Fatalf("error %d is %s", i, f.Verdict)
				}
				template.Adjust(f)
			}
			u.LearnRefused("claude-opus-9", template)
			if got, want := wishSent(t, u, asked(t, tt.says), "claude-opus-9"), tt.sent[len(tt.sent)-1]; got != want {
				t.Errorf("the next request says %s, want %s", got, want)
			}
			if got := wishSent(t, u, asked(t, tt.says), "claude-opus-8"); got != tt.sent[0] {
				t.Errorf("another model is told %s, want %s", got, tt.sent[0])
			}
			if template.Unadjusted(); wishSent(t, upstreamOf(t, tt.kind, nil), template, "claude-opus-9") != tt.sent[0] {
				t.Error("another upstream is not told what the client said")
			}
		})
	}
}

// A parameter of the configuration pins the effort for those who wish for nothing, whichever upstream it is.
func TestPinnedEffort(t *testing.T) {
	t.Parallel()
	pin := func(name, value string) func(*Config) {
		return func(c *Config) { c.Params = []Param{{name, []byte(value)}} }
	}
	quiet := pin(thinking.EffortMember, `"none"`)
	nothing, messages, ollama := said{chatPath, ``}, said{messagesPath, `"temperature":1`}, said{ollamaPath, ``}
	for _, tt := range []struct {
		name   string
		kind   *Kind
		model  string
		change func(*Config)
		says   said
		want   string
	}{
		{"vllm", VLLM, "m", quiet, nothing, `"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":false,"thinking":false}`},
		{"vllm, a client of Anthropic's API", VLLM, "m", quiet, messages, `"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":false,"thinking":false}`},
		{"llama.cpp", LlamaCpp, "m", quiet, nothing, `"chat_template_kwargs":{"reasoning_effort":"low","enable_thinking":false,"thinking":false}`},
		{"ollama", Ollama, "m", quiet, nothing, `"think":false`},
		{"ollama, a client of its own API", Ollama, "m", quiet, ollama, `"think":false`},
		{"ollama, its own API, a model that always thinks", Ollama, "gpt-oss:20b", quiet, ollama, `"think":"low"`},
		{"ollama, a level for its own API", Ollama, "m", pin(thinking.EffortMember, `"high"`), ollama, `"think":"high"`},
		{"openai", OpenAI, "m", quiet, nothing, `"reasoning_effort":"none"`},
		{"deepseek", DeepSeek, "m", quiet, nothing, `"thinking":{"type":"disabled"}`},
		{"openrouter", OpenRouter, "m", quiet, messages, `"reasoning":{"effort":"none"}`},
		{"anthropic", Anthropic, "claude-opus-5", quiet, nothing, `"thinking":{"type":"disabled"}`},
		{"anthropic, an effort", Anthropic, "claude-opus-5", pin(thinking.EffortMember, `"high"`), nothing, `"output_config":{"effort":"high"},"thinking":{"type":"adaptive"}`},
		{"anthropic, a client of its own API", Anthropic, "claude-opus-5", quiet, messages, `"thinking":{"type":"disabled"}`},
		{"anthropic, its own API, an older model", Anthropic, "claude-haiku-4-5", pin(thinking.EffortMember, `"low"`), said{messagesPath, ``}, `"thinking":{"type":"enabled","budget_tokens":2048}`},

		{"a wish counts more", VLLM, "m", quiet, said{chatPath, `"reasoning_effort":"low"`}, `"reasoning_effort":"low","chat_template_kwargs":{"enable_thinking":true,"thinking":true}`},
		{"a wish by another name", DeepSeek, "m", quiet, said{chatPath, `"thinking":{"type":"enabled"}`}, `"thinking":{"type":"enabled"}`},
		{"a wish of a client of Anthropic's API", Ollama, "m", quiet, said{messagesPath, `"thinking":{"type":"enabled","budget_tokens":2048}`}, `"think":"low"`},
		{"a wish in Anthropic's own API", Anthropic, "claude-opus-5", quiet, said{messagesPath, `"output_config":{"effort":"max"}`}, `"output_config":{"effort":"max"}`},
		{"a wish in Ollama's own API", Ollama, "m", quiet, said{ollamaPath, `"think":true`}, `"think":true`},
		{"the server's own member counts most", VLLM, "m", pin(thinking.TemplateMember, `{"enable_thinking":false}`), said{chatPath, `"reasoning_effort":"low"`}, `"reasoning_effort":"low","chat_template_kwargs":{"enable_thinking":false}`},
		{"an unknown effort", Ollama, "m", pin(thinking.EffortMember, `"heroic"`), ollama, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := wishSent(t, upstreamOf(t, tt.kind, tt.change), asked(t, tt.says), tt.model); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Members that drop names are not sent, wherever they come from.
func TestDroppedEffort(t *testing.T) {
	t.Parallel()
	u := upstreamOf(t, VLLM, func(c *Config) { c.Drop = []string{thinking.TemplateMember, thinking.EffortMember} })
	if got := wishSent(t, u, asked(t, said{messagesPath, `"thinking":{"type":"disabled"}`}), "m"); got != "" {
		t.Errorf("it says %s", got)
	}
}

// Clients of the Responses API and their servers have one language, so that only what a model refuses changes.
func TestEffortOfResponses(t *testing.T) {
	t.Parallel()
	u := upstreamOf(t, OpenAI, nil)
	ask := func(members, model string) (string, *Template) {
		template := templateOf(t, "/v1/responses", `{"model":"m","input":"Hi"`+members+`}`)
		if err := u.Prepare(template, model); err != nil {
			t.Fatal(err)
		}
		return sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], model)), template
	}
	const high = `,"reasoning": {"summary":"auto", "effort":"xhigh"}`
	got, template := ask(high, "m")
	if got != `{"model":"m","input":"Hi"`+high+`}` {
		t.Errorf("sent %s", got)
	}
	f := u.ClassifyAnswer(template, 400, nil, []byte(`{"error":{"message":"Unsupported value: 'xhigh' is not supported with the 'm' model. Supported values are: 'low', 'medium', and 'high'.","param":"reasoning.effort","code":"unsupported_value"}}`))
	template.Adjust(f)
	u.LearnRefused("m", template)
	for members, want := range map[string]string{
		high:                               `,"reasoning": {"summary":"auto", "effort":"high"}`,
		`,"reasoning":{"effort":"none"}`:   `,"reasoning":{"effort":"low"}`,
		`,"reasoning":{"summary":"auto"}`:  `,"reasoning":{"summary":"auto"}`,
		`,"reasoning":{"effort":"heroic"}`: `,"reasoning":{"effort":"heroic"}`,
		``:                                 ``,
	} {
		if got, _ := ask(members, "m"); got != `{"model":"m","input":"Hi"`+want+`}` {
			t.Errorf("%s became %s", members, got)
		}
	}
	if got, _ := ask(`,"reasoning":{"effort":"none"}`, "gpt-oss-20b"); !strings.Contains(got, `"effort":"low"`) {
		t.Errorf("gpt-oss got %s", got)
	}
}

// Thinking is turned on only if the rest of the request allows that, and with as much as the limit leaves.
func TestThinkingOfClaude(t *testing.T) {
	t.Parallel()
	const call = `,{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"}]`
	for _, tt := range []struct{ name, model, members, want string }{
		{"a limit", "claude-haiku-4-5", `"max_tokens":6000,"reasoning_effort":"high"`, `"max_tokens":6000,"thinking":{"type":"enabled","budget_tokens":3000}`},
		{"a limit that is too small", "claude-haiku-4-5", `"max_completion_tokens":64,"reasoning_effort":"high"`, `"max_tokens":64`},
		{"no limit", "claude-haiku-4-5", `"reasoning_effort":"medium"`, `"max_tokens":12288,"thinking":{"type":"enabled","budget_tokens":8192}`},
		{"a temperature", "claude-haiku-4-5", `"max_tokens":9000,"temperature":0.5,"reasoning_effort":"medium"`, `"max_tokens":9000,"temperature":0.5`},
		{"the only temperature", "claude-opus-4-6", `"max_tokens":9000,"temperature":1,"reasoning_effort":"medium"`, `"max_tokens":9000,"temperature":1,"output_config":{"effort":"medium"},"thinking":{"type":"adaptive"}`},
		{"top_p", "claude-opus-4-6", `"max_tokens":9000,"top_p":0.5,"reasoning_effort":"medium"`, `"max_tokens":9000,"top_p":0.5,"output_config":{"effort":"medium"}`},
		{"a tool that must be called", "claude-opus-4-6", `"max_tokens":9000,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","reasoning_effort":"medium"`,
			`"max_tokens":9000,"output_config":{"effort":"medium"},"tools":[{"name":"f","input_schema":{"type":"object","properties":{}}}],"tool_choice":{"type":"any"}`},
		{"a call without its thinking", "claude-haiku-4-5", `"max_tokens":9000,"reasoning_effort":"medium"` + call, `"max_tokens":9000`},
		{"a call without its thinking, adaptive", "claude-opus-5", `"max_tokens":9000,"reasoning_effort":"low"` + call, `"max_tokens":9000,"output_config":{"effort":"low"},"thinking":{"type":"adaptive"}`},
		{"a schema stays", "claude-haiku-4-5", `"max_tokens":9000,"reasoning_effort":"none","response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}`,
			`"max_tokens":9000,"thinking":{"type":"disabled"},"output_config":{"format":{"type":"json_schema","schema":{}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamOf(t, Anthropic, nil)
			members, _, found := strings.Cut(tt.members, call)
			messages := "]"
			if found {
				messages = call
			}
			template := templateOf(t, chatPath, `{"model":"m",`+members+`,"messages":[{"role":"user","content":"Hi"}`+messages+`}`)
			if err := u.Prepare(template, tt.model); err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			decode(t, sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], tt.model)), &got)
			decode(t, "{"+tt.want+"}", &want)
			for _, name := range []string{"model", "messages"} {
				delete(got, name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A client of Anthropic's API that names a model of the service gets the service's own answer. One that names a model of this gateway
// cannot know what that stands for.
func TestThinkingOfAliases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, model, members, want string }{
		{"adaptive for an older model", "claude-sonnet-4-5", `"thinking":{"type":"adaptive"},"output_config":{"effort":"high"}`, `"thinking":{"type":"enabled","budget_tokens":16384}`},
		{"adaptive and no room", "claude-sonnet-4-5", `"thinking":{"type":"adaptive"},"max_tokens":64,"context_management":{"edits":[{"type":"clear_thinking_20251015"}]}`, ``},
		{"a budget for a newer model", "claude-opus-5", `"thinking":{"type":"enabled","budget_tokens":2048}`, `"thinking":{"type":"adaptive"}`},
		{"off for one that always thinks", "claude-fable-5", `"thinking":{"type":"disabled"}`, `"output_config":{"effort":"low"}`},
		{"off", "claude-opus-5", `"thinking":{"type":"disabled"}`, `"thinking":{"type":"disabled"}`},
		{"a schema stays", "claude-haiku-4-5", `"output_config":{"effort":"low","format":{"type":"json_schema","schema":{}}}`, `"output_config":{"format":{"type":"json_schema","schema":{}}}`},
		{"another family", "glm-5", `"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}`, `"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}`},
		{"the model itself", "m", `"thinking":{"type":"adaptive"}`, `"thinking":{"type":"adaptive"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := wishSent(t, upstreamOf(t, Anthropic, nil), asked(t, said{messagesPath, tt.members}), tt.model); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func decode(t *testing.T, body string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
}

// A request that wishes for nothing costs a look at its keys.
func TestNoWishIsFree(t *testing.T) {
	u := upstreamOf(t, VLLM, nil)
	template := asked(t, said{chatPath, `"temperature":0.5,"top_p":0.9`})
	template.edit.Reset(&template.JSON.Object)
	if n := testing.AllocsPerRun(100, func() { u.tellThinking(template, &template.JSON.Object, "m") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTellThinking(b *testing.B) {
	for name, members := range map[string]string{"no wish": `"temperature":0.5,"top_p":0.9,"stream":true`, "a wish": `"reasoning_effort":"none"`} {
		b.Run(name, func(b *testing.B) {
			u, template := upstreamOf(b, VLLM, nil), asked(b, said{chatPath, members})
			b.ReportAllocs()
			for b.Loop() {
				template.edit.Reset(&template.JSON.Object)
				u.tellThinking(template, &template.JSON.Object, "m")
				template.added = template.added[:0]
			}
		})
	}
}
