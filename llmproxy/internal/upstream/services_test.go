package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// serviceOf returns an upstream of a hosted service, at the resource's address if the kind needs one.
func serviceOf(t *testing.T, kind *Kind, apiVersion string) *Upstream {
	t.Helper()
	address := kind.ServiceBase
	if kind == Azure {
		address = "res.openai.azure.com"
	}
	base, err := kind.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Name: "u", Kind: kind, Bases: []*url.URL{base}, APIKey: "secret", APIVersion: apiVersion, Replica: func(string) *replica.Replica { return new(replica.Replica) }})
}

// Each service gets a request as it understands it.
func TestServiceRequests(t *testing.T) {
	t.Parallel()
	const chat = "/v1/chat/completions"
	for _, tt := range []struct {
		name       string
		kind       *Kind
		apiVersion string
		path, body string
		url, want  string
	}{
		{"azure", Azure, "", chat, `{"model":"m"}`, "https://res.openai.azure.com/openai/v1/chat/completions", `{"model":"there"}`},
		{"azure with a version", Azure, "2024-10-21", chat, `{"model":"m"}`, "https://res.openai.azure.com/openai/deployments/there/chat/completions?api-version=2024-10-21", `{"model":"there"}`},
		{"azure with a version, embeddings", Azure, "2024-10-21", "/v1/embeddings", `{"model":"m"}`, "https://res.openai.azure.com/openai/deployments/there/embeddings?api-version=2024-10-21", `{"model":"there"}`},
		{"azure with a version, responses", Azure, "2025-03-01-preview", "/v1/responses", `{"model":"m"}`, "https://res.openai.azure.com/openai/responses?api-version=2025-03-01-preview", `{"model":"there"}`},
		{"gemini", Gemini, "", chat, `{"model":"m","extra_body":{"google":{}}}`, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", `{"model":"there","extra_body":{"google":{}}}`},
		{"gemini, signed calls", Gemini, "", chat, `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","extra_content":{"google":{"thought_signature":"s"}}},{"id":"b"}]}]}`,
			"https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", `{"model":"there","messages":[{"role":"assistant","tool_calls":[{"id":"a","extra_content":{"google":{"thought_signature":"s"}}},{"id":"b"}]}]}`},
		{"gemini, calls of another model", Gemini, "", chat, `{"model":"m","messages":[{"role":"assistant", "tool_calls":[ {"id":"a"},{"id":"b"}]},{"role":"assistant","tool_calls":null},{"role":"tool"}]}`,
			"https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", `{"model":"there","messages":[{"role":"assistant", "tool_calls":[ {"extra_content":{"google":{"thought_signature":"skip_thought_signature_validator"}},"id":"a"},{"id":"b"}]},{"role":"assistant","tool_calls":null},{"role":"tool"}]}`},
		{"openrouter", OpenRouter, "", chat, `{"models":["dear/one"],"model":"m","route":"fallback","provider":{},"plugins":[],"transforms":[]}`, "https://openrouter.ai/api/v1/chat/completions", `{"model":"there","transforms":[]}`},
		{"groq", Groq, "", chat, `{"model":"m","seed":1}`, "https://api.groq.com/openai/v1/chat/completions", `{"model":"there","seed":1}`},
		{"mistral", Mistral, "", chat, `{"model":"m","seed":1,"max_completion_tokens":2,"user":"x","safety_identifier":"y","prompt_cache_key":"k","verbosity":"low","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"developer","content":"developer"},{"content":"a","role":"user"}]}`,
			"https://api.mistral.ai/v1/chat/completions", `{"model":"there","random_seed":1,"max_tokens":2,"prompt_cache_key":"k","stream":true,"messages":[{"role":"system","content":"developer"},{"content":"a","role":"user"}]}`},
		{"mistral, what another model wrote", Mistral, "", chat, `{"model":"m","messages":[{"role":"user","content":"reasoning_content"},{"role":"assistant","content":null,"reasoning_content":"hm","refusal":null,"tool_calls":[{"id":"call_1","type":"function","extra_content":{"google":{}},"function":{"name":"f","arguments":"{}"}},{"id":"abcDEF123"}]},{"role":"tool","tool_call_id":"call_1","content":"1"},{"role":"tool","tool_call_id":"abcDEF123"}]}`,
			"https://api.mistral.ai/v1/chat/completions", `{"model":"there","messages":[{"role":"user","content":"reasoning_content"},{"role":"assistant","content":null,"tool_calls":[{"id":"9gD2Dimct","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"abcDEF123"}]},{"role":"tool","tool_call_id":"9gD2Dimct","content":"1"},{"role":"tool","tool_call_id":"abcDEF123"}]}`},
		{"mistral, no list", Mistral, "", chat, `{"model":"m","messages":"tool_calls"}`, "https://api.mistral.ai/v1/chat/completions", `{"model":"there","messages":"tool_calls"}`},
		{"mistral, a stream", Mistral, "", chat, `{"model":"m","stream":true}`, "https://api.mistral.ai/v1/chat/completions", `{"model":"there","stream":true}`},
		{"deepseek", DeepSeek, "", chat, `{"max_completion_tokens":2,"model":"m","messages":[{"role": "developer"}, 1]}`, "https://api.deepseek.com/v1/chat/completions", `{"max_tokens":2,"model":"there","messages":[{"role": "system"}, 1]}`},
		{"deepseek, no developer", DeepSeek, "", chat, `{"model":"m","messages":[ {"role":"user","content":"a \"developer\""} ]}`, "https://api.deepseek.com/v1/chat/completions", `{"model":"there","messages":[ {"role":"user","content":"a \"developer\""} ]}`},
		{"together without tools", Together, "", chat, `{"model":"m","tools":[{}],"tool_choice":"none"}`, "https://api.together.xyz/v1/chat/completions", `{"model":"there"}`},
		{"together with tools", Together, "", chat, `{"model":"m","tools":[{}],"tool_choice":"auto"}`, "https://api.together.xyz/v1/chat/completions", `{"model":"there","tools":[{}],"tool_choice":"auto"}`},
		{"fireworks", Fireworks, "", chat, `{"model":"m"}`, "https://api.fireworks.ai/inference/v1/chat/completions", `{"model":"there"}`},
		{"xai", XAI, "", chat, `{"model":"m"}`, "https://api.x.ai/v1/chat/completions", `{"model":"there"}`},
		{"cerebras", Cerebras, "", chat, `{"model":"m"}`, "https://api.cerebras.ai/v1/chat/completions", `{"model":"there"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serviceOf(t, tt.kind, tt.apiVersion)
			template := templateOf(t, tt.path, tt.body)
			if err := u.Prepare(template, "there"); err != nil {
				t.Fatal(err)
			}
			req := u.NewRequest(context.Background(), template, u.Replicas[0], "there")
			if got := req.URL.String(); got != tt.url {
				t.Errorf("URL %s, want %s", got, tt.url)
			}
			if got := sent(t, req); got != tt.want {
				t.Errorf("body %s\nwant %s", got, tt.want)
			}
			header, value := "Authorization", "Bearer secret"
			if tt.kind == Azure {
				header, value = "Api-Key", "secret"
			}
			if got := req.Header[header]; len(got) != 1 || got[0] != value || tt.kind == Azure && req.Header["Authorization"] != nil {
				t.Errorf("headers %v", req.Header)
			}
		})
	}
}

// A client of OpenRouter may use what the configuration allows.
func TestAllowedMembers(t *testing.T) {
	t.Parallel()
	const body = `{"model":"m","models":["a"],"route":"fallback","provider":{"order":["x"]},"plugins":[]}`
	u := upstreamOf(t, OpenRouter, func(c *Config) { c.AllowOptions = []string{"provider", "plugins"} })
	template := templateOf(t, chatPath, body)
	if err := u.Prepare(template, "there"); err != nil {
		t.Fatal(err)
	}
	if got, want := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], "there")), `{"model":"there","provider":{"order":["x"]},"plugins":[]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The list of Gemini's models has names that clients do not use.
func TestNamesOfGemini(t *testing.T) {
	t.Parallel()
	u := serviceOf(t, Gemini, "")
	u.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		if req.URL.String() != "https://generativelanguage.googleapis.com/v1beta/openai/models" {
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(
			`{"object":"list","data":[{"id":"models/gemini-2.5-flash","object":"model","owned_by":"google","display_name":"Gemini 2.5 Flash"},{"id":"other/models/x"}]}`))}, nil
	})
	d := u.Discover(t.Context())
	var names []string
	for _, m := range d.Models {
		names = append(names, m.ID)
	}
	if diff := cmp.Diff([]string{"gemini-2.5-flash", "other/models/x"}, names); d.Err != nil || diff != "" {
		t.Errorf("%v: %s", d.Err, diff)
	}
}

// DeepSeek has no schemas for answers, unless the configuration knows better.
func TestWhatDeepSeekCannot(t *testing.T) {
	t.Parallel()
	if c := upstreamOf(t, DeepSeek, nil).Capabilities("m"); c.Lacks != router.JSONSchema {
		t.Errorf("it lacks %b", c.Lacks)
	}
	if c := upstreamOf(t, DeepSeek, func(c *Config) { c.Override.Can = router.JSONSchema }).Capabilities("m"); c.Lacks != 0 {
		t.Errorf("it lacks %b", c.Lacks)
	}
	if c := upstreamOf(t, Groq, nil).Capabilities("m"); c.Lacks != 0 {
		t.Errorf("another one lacks %b", c.Lacks)
	}
}

// Models that sign nothing get no signatures.
func TestOlderGemini(t *testing.T) {
	t.Parallel()
	u := serviceOf(t, Gemini, "")
	for model, signed := range map[string]bool{"gemini-2.5-pro": false, "gemini-1.5-flash": false, "gemini-2": false, "gemini-3-pro": true, "models/gemini-3.5-flash": true, "gemini-flash-latest": true, "gemini-20": true} {
		template := templateOf(t, "/v1/chat/completions", `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a"}]}]}`)
		if err := u.Prepare(template, model); err != nil {
			t.Fatal(err)
		}
		if got := sent(t, u.NewRequest(context.Background(), template, u.Replicas[0], model)); strings.Contains(got, "thought_signature") != signed {
			t.Errorf("%s: %s", model, got)
		}
	}
}

// A signature of Gemini goes through the clients of other APIs, who keep nothing but the ID of a call, and back.
func TestSignaturesComeBack(t *testing.T) {
	t.Parallel()
	const signature = `{"google":{"thought_signature":"s+/="}}`
	const answer = `{"choices":[{"index":0,"message":{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":` + signature + `},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}]}`
	const chunk = `{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":` + signature + `},{"index":1,"id":"b","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`
	calls := func(t *testing.T, path string, whole bool) []string {
		clients, _ := openai.LookupEndpoint(path)
		to, about := dialect.EndpointOf(clients), &dialect.About{Model: "m"}
		var translated []byte
		if whole {
			translated, _ = to.Whole(nil, []byte(answer), about)
		} else {
			stream := to.Stream(about)
			translated = stream.Append(stream.Append(nil, []byte(chunk)), []byte("[DONE]"))
		}
		var ids []string
		for _, m := range regexp.MustCompile(`"id":"((?:a|b)[^"]*)"`).FindAllSubmatch(translated, -1) {
			ids = append(ids, string(m[1]))
		}
		if len(ids) != 2 || ids[1] != "b" {
			t.Fatalf("the calls %q in %s", ids, translated)
		}
		return ids
	}
	for _, tt := range []struct{ name, path, request string }{
		{"Anthropic's API", messagesPath, `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"tool_use","id":"A","name":"f","input":{}},{"type":"tool_use","id":"B","name":"f","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"A","content":"1"},{"type":"tool_result","tool_use_id":"B","content":"2"}]}]}`},
		{"Ollama's API", ollamaPath, `{"model":"m","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"","tool_calls":[{"id":"A","function":{"name":"f","arguments":{}}},{"id":"B","function":{"name":"f","arguments":{}}}]},
			{"role":"tool","tool_call_id":"A","content":"1"},{"role":"tool","tool_call_id":"B","content":"2"}]}`},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, whole %v", tt.name, whole), func(t *testing.T) {
				t.Parallel()
				ids := calls(t, tt.path, whole)
				body := strings.ReplaceAll(strings.ReplaceAll(tt.request, `"A"`, `"`+ids[0]+`"`), `"B"`, `"`+ids[1]+`"`)
				for kind, signed := range map[*Kind]int{Gemini: 1, Cerebras: 0, VLLM: 0} {
					template := askedWith(t, tt.path, body)
					u := upstreamOf(t, kind, nil)
					if err := u.Prepare(template, "gemini-3-pro"); err != nil {
						t.Fatal(err)
					}
					got := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], "gemini-3-pro"))
					if strings.Count(got, `"id":"a"`) != 1 || strings.Count(got, `"tool_call_id":"a"`) != 1 || strings.Count(got, signature) != signed || strings.Count(got, "extra_content") != signed {
						t.Errorf("%s gets %s", kind.Name, got)
					}
				}
			})
		}
	}
}

// A translated request bounds its answer by the name that the server knows.
func TestTranslatedLimit(t *testing.T) {
	t.Parallel()
	const message = `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`
	for _, tt := range []struct {
		name, address string
		kind          *Kind
		want          string
	}{
		{"OpenAI", "https://api.openai.com", OpenAI, `"max_completion_tokens":9`},
		{"a compatible service", "https://api.example.com", OpenAI, `"max_tokens":9`},
		{"Azure", "https://res.openai.azure.com", Azure, `"max_completion_tokens":9`},
		{"vLLM", "http://127.0.0.1:8000", VLLM, `"max_tokens":9`},
		{"Mistral", "https://api.mistral.ai", Mistral, `"max_tokens":9`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			base, err := tt.kind.ParseAddress(tt.address)
			if err != nil {
				t.Fatal(err)
			}
			u := New(Config{Name: "u", Kind: tt.kind, Bases: []*url.URL{base}, Replica: func(string) *replica.Replica { return new(replica.Replica) }})
			original := new(openai.Request)
			if err := original.Parse([]byte(message)); err != nil {
				t.Fatal(err)
			}
			own := dialect.EndpointOf(openai.Messages)
			chat, _, problem := own.Request(&original.Object, dialect.AllOptions)
			if problem != nil {
				t.Fatal(problem)
			}
			template := templateOf(t, "/v1/chat/completions", string(chat))
			template.Own, template.Original = own, original
			if problem := u.Prepare(template, "there"); problem != nil {
				t.Fatal(problem)
			}
			if got := sent(t, u.NewRequest(context.Background(), template, u.Replicas[0], "there")); !strings.Contains(got, tt.want) || strings.Count(got, "_tokens") != 1 {
				t.Errorf("sent %s, want %s", got, tt.want)
			}
		})
	}
}

// A deployment whose name has a slash stays one part of the path.
func TestDeploymentIsEscaped(t *testing.T) {
	t.Parallel()
	u := serviceOf(t, Azure, "2024-10-21")
	if got, want := u.url(u.Bases[0], "/embeddings", "a/../b").RequestURI(), "/openai/deployments/a%2F..%2Fb/embeddings?api-version=2024-10-21"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Azure lists models that are not deployed, so its list is not asked for.
func TestAzureIsNotListed(t *testing.T) {
	t.Parallel()
	u := serviceOf(t, Azure, "")
	u.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("the list was asked for")
		return nil, io.EOF
	})
	if d := u.Discover(t.Context()); d.Err != nil || len(d.Models) != 0 {
		t.Errorf("found %+v", d)
	}
}

// What OpenAI's clients would not understand in an answer is repaired; all else stays as it is.
func TestRepairs(t *testing.T) {
	t.Parallel()
	chunk := func(delta, reason string) string {
		return fmt.Sprintf(`data: {"choices":[{"delta":%s,"finish_reason":%s,"index":0}],"model":"x"}`, delta, reason) + "\n\n"
	}
	const call, more = `{"id":"a","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}`, `{"id":"b","function":{"name":"g","arguments":""}}`
	indexed := func(call string, index int) string { return fmt.Sprintf(`{"index":%d,%s`, index, call[1:]) }
	const done = "data: [DONE]\n\n"
	for _, tt := range []struct {
		name     string
		kind     *Kind
		in, want string
	}{
		{"gemini: calls in one chunk", Gemini, chunk(`{"tool_calls":[`+call+`,`+more+`]}`, `"stop"`) + done, chunk(`{"tool_calls":[`+indexed(call, 0)+`,`+indexed(more, 1)+`]}`, `"tool_calls"`) + done},
		{"gemini: calls in two chunks", Gemini, chunk(`{"tool_calls":[`+call+`]}`, "null") + chunk(`{"tool_calls":[`+more+`]}`, "null") + chunk(`{}`, `"stop"`) + done,
			chunk(`{"tool_calls":[`+indexed(call, 0)+`]}`, "null") + chunk(`{"tool_calls":[`+indexed(more, 1)+`]}`, "null") + chunk(`{}`, `"tool_calls"`) + done},
		{"gemini: an index", Gemini, chunk(`{"tool_calls":[`+indexed(call, 7)+`]}`, "null"), chunk(`{"tool_calls":[`+indexed(call, 7)+`]}`, "null")},
		{"gemini: text", Gemini, ": hi\n\n" + chunk(`{"content":"a"}`, `"stop"`) + done, ": hi\n\n" + chunk(`{"content":"a"}`, `"stop"`) + done},
		{"gemini: cut off by a limit", Gemini, chunk(`{"tool_calls":[`+call+`]}`, `"length"`), chunk(`{"tool_calls":[`+indexed(call, 0)+`]}`, `"length"`)},
		{"gemini: whole", Gemini, ` {"choices":[{"finish_reason":"stop","message":{"tool_calls":[` + call + `]}}]}`, `{"choices":[{"finish_reason":"tool_calls","message":{"tool_calls":[` + call + `]}}]}`},
		{"gemini: an error", Gemini, `[{"error":{"code":400}}]`, `[{"error":{"code":400}}]`},
		{"mistral: parts", Mistral, chunk(`{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"h\"m"}]}]}`, "null") + chunk(`{"content":[{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]},{"type":"text","text":"b"}]}`, "null") + chunk(`{"content":"c"}`, `"stop"`) + done,
			chunk(`{"role":"assistant","content":"","reasoning_content":"h\"m"}`, "null") + chunk(`{"content":"ab"}`, "null") + chunk(`{"content":"c"}`, `"stop"`) + done},
		{"mistral: whole", Mistral, `{"choices":[{"finish_reason":"stop","message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"}],"tool_calls":null}}]}`, `{"choices":[{"finish_reason":"stop","message":{"content":"a","reasoning_content":"hm","tool_calls":null}}]}`},
		{"together: eos", Together, chunk(`{"content":"a"}`, "null") + chunk(`{}`, `"eos"`) + done, chunk(`{"content":"a"}`, "null") + chunk(`{}`, `"stop"`) + done},
		{"together: whole", Together, `{"choices":[{"finish_reason":"eos"},{"finish_reason":"length"}]}`, `{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serviceOf(t, tt.kind, "")
			for name, src := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in))} {
				res := &http.Response{Header: http.Header{}, Body: io.NopCloser(src), ContentLength: -1}
				if err := u.TranslateAnswer(templateOf(t, "/v1/chat/completions", `{"model":"m"}`), res); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				if err != nil || res.Body.Close() != nil {
					t.Errorf("%s: %v", name, err)
				}
				if diff := cmp.Diff(tt.want, string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// FuzzRepairs checks that a repair leaves valid JSON valid, and does not panic on anything else.
func FuzzRepairs(f *testing.F) {
	f.Add([]byte(`{"choices":[{"delta":{"tool_calls":[{},{"id":"a"}]},"finish_reason":"stop"}]}`))
	f.Add([]byte(`{"choices":[{"finish_reason":"eos","finish_reason":"eos"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, newRepair := range []func() repair{repairToolCalls, repairReasons, repairParts} {
			once := newRepair()(bytes.Clone(data))
			if json.Valid(data) && !json.Valid(once) {
				t.Errorf("%q became %q", data, once)
			}
		}
	})
}

// Ollama's own /v1 ignores that no tool may be called, so that the model must not see one.
func TestForbiddenToolsAtOllama(t *testing.T) {
	t.Parallel()
	u := upstreamOf(t, Ollama, func(c *Config) { c.OpenAI = true })
	template := templateOf(t, chatPath, `{"model":"m","tools":[{}],"tool_choice":"none"}`)
	if err := u.Prepare(template, "x"); err != nil {
		t.Fatal(err)
	}
	if got := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], "x")); got != `{"model":"x"}` {
		t.Errorf("sent %s", got)
	}
}
