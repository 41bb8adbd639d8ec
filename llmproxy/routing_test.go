package llmproxy

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

func TestRoutesByContent(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	log := filepath.Join(t.TempDir(), "access.log")
	caddyfile, url := site(t, `	log {
		output file `+log+`
	}
	llm_proxy {
		upstream u openai `+fake.URL()+`
		@team header X-Team core
		model auto {
			@hard expression {llm.prompt_tokens} > 4000 || {llm.tools} > 0
			@code {
				llm content "(?i)stack ?trace"
				llm messages =1
			}
			@json `+"`{llm.json_schema} && {llm.model} == \"auto\"`"+`
			@tried llm prompt_tokens <100
			route @tried u/tried {
				shadow
			}
			route @hard u/hard
			route @code u/code
			route @json u/json
			route @team u/team
			route u/rest
		}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, body, header, target, route string }{
		{"nothing matches", message("Hi"), "", "u/rest", "auto"},
		{"long", message(strings.Repeat("word ", 4000)), "", "u/hard", "auto/@hard"},
		{"tools", `{"model":"auto","messages":[],"tools":[{}]}`, "", "u/hard", "auto/@hard"},
		{"content", message("this stacktrace, please"), "", "u/code", "auto/@code"},
		{"content of two messages", `{"model":"auto","messages":[{"role":"system","content":"x"},{"role":"user","content":"stack trace"}]}`, "", "u/rest", "auto"},
		{"a boolean and a text", `{"model":"auto","messages":[],"response_format":{"type":"json_schema"}}`, "", "u/json", "auto/@json"},
		{"a header, by a matcher of the whole block", message("Hi"), "X-Team", "u/team", "auto/@team"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.header != "" {
				header = []string{test.header, "core"}
			}
			res, body := post(t, url, test.body, header...)
			if res.StatusCode != 200 || res.Header.Get("X-LLM-Target") != test.target || res.Header.Get("X-LLM-Route") != test.route {
				t.Errorf("status %d, target %q, route %q: %s", res.StatusCode, res.Header.Get("X-LLM-Target"), res.Header.Get("X-LLM-Route"), body)
			}
		})
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(lines), `"route":"auto","shadow":"auto/@tried"`) {
		t.Errorf("the shadow is not in the log, %v: %s", err, lines)
	}
}

// A conversation keeps its rule over a reload, and what must stay local stays over one, whatever changes.
func TestRulesOverReloads(t *testing.T) {
	near, far := fakellm.Start(t, "ollama", fakellm.Models("x", "hard")), fakellm.Start(t, "openai", fakellm.Models("x"))
	caddyfile, url := site(t, `	llm_proxy {
		upstream near ollama `+near.URL()+`
		upstream far openai `+far.URL()+`
		model auto {
			@hard header X-Hard 1
			route @hard near/hard
			route near/x
		}
		model both {
			to far/x
			fallback near/x
		}
		discover
		@private header X-Privacy local
		local_only @private
	}`)
	ask := func(model string, header ...string) *http.Response {
		res, _ := post(t, url, strings.Replace(message("Hi"), "auto", model, 1), append(header, "X-Session-Id", "s")...)
		return res
	}
	for i := range 3 {
		if err := load(t, strings.Replace(caddyfile, "discover", fmt.Sprintf("discover\n\t\tmax_body %dMiB", i+1), 1)); err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections() // those to the server before
		header := []string{}
		if i == 0 {
			header = []string{"X-Hard", "1"}
		}
		if got := ask("auto", header...).Header.Get("X-LLM-Route"); got != "auto/@hard" {
			t.Errorf("load %d: the conversation went to %s", i, got)
		}
		for _, model := range []string{"both", "x", "auto"} {
			if res := ask(model, "X-Privacy", "local"); res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("X-LLM-Target"), "near/") {
				t.Errorf("load %d, %s: status %d, target %q", i, model, res.StatusCode, res.Header.Get("X-LLM-Target"))
			}
		}
	}
	if n := len(far.Requests()); n > 0 {
		t.Errorf("%d requests left", n)
	}
	if res := ask("both"); res.Header.Get("X-LLM-Target") != "far/x" {
		t.Errorf("who may leave got %q", res.Header.Get("X-LLM-Target"))
	}
}

// local_only of an upstream, of everything, and what the configuration says of targets.
func TestLocalOnlyAndLimits(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream rack openai `+fake.URL()+` {
			local
			context 100
			context large 100000
			cannot images
		}
		upstream far openai `+fake.URL()+`
		model auto {
			to far/x
			fallback rack/small
			fallback rack/large
		}
		local_only
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	if res, _ := post(t, url, message("Hi")); res.Header.Get("X-LLM-Target") != "rack/small" {
		t.Errorf("a short one went to %q", res.Header.Get("X-LLM-Target"))
	}
	if res, _ := post(t, url, message(strings.Repeat("word ", 1000))); res.Header.Get("X-LLM-Target") != "rack/large" {
		t.Errorf("a long one went to %q", res.Header.Get("X-LLM-Target"))
	}
}

// message is a chat request for the model auto.
// The example sends small jobs to the small model, whatever the client's API and session.
func TestSmallJobsExample(t *testing.T) {
	small, big := fakellm.Start(t, "ollama"), fakellm.Start(t, "vllm")
	t.Setenv("OLLAMA_ADDRESS", small.URL())
	t.Setenv("VLLM_ADDRESS", big.URL())
	address := freeport.Address(t)
	t.Setenv("SITE_ADDRESS", "http://"+address)
	if err := load(t, read(t, "../examples/small-jobs/Caddyfile")); err != nil {
		t.Fatal(err)
	}
	const long = `"max_tokens":4096,`
	title := `{"model":"coder",` + long + `"system":"Generate a concise, sentence-case title (3-7 words)","messages":[{"role":"user","content":"Fix the login"}]}`
	for _, test := range []struct{ name, path, body, header, route string }{
		{"a title in Anthropic's API, first in its session", "/v1/messages", title, "", "coder/@small"},
		{"the conversation", "/v1/messages", `{"model":"coder",` + long + `"messages":[{"role":"user","content":"Fix the login"}]}`, "", "coder"},
		{"the title of another one", "/v1/messages", title, "", "coder/@small"},
		{"a short answer", "/v1/chat/completions", `{"model":"coder","max_tokens":20,"messages":[{"role":"user","content":"Spam?"}]}`, "", "coder/@small"},
		{"a task of Open WebUI", "/v1/chat/completions", question("coder", "My own template"), "title_generation", "coder/@small"},
		{"Open WebUI without a task", "/v1/chat/completions", question("coder", "Hi"), "", "coder"},
		{"Open WebUI before it knew tasks", "/v1/chat/completions", question("coder", "Hi"), "{{TASK}}", "coder"},
		{"tools", "/v1/chat/completions", `{"model":"coder","max_tokens":20,"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Spam?"}]}`, "", "coder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := newRequest(t, http.MethodPost, "http://"+address+test.path, test.body, "X-Claude-Code-Session-Id", "s", "X-OpenWebUI-Task", test.header)
			res := send(t, req)
			body, _ := io.ReadAll(res.Body)
			if got := res.Header.Get("X-LLM-Route"); got != test.route {
				t.Errorf("route %q, want %q; %s", got, test.route, body)
			}
		})
	}
}

func message(content string) string { return question("auto", content) }

// Rules of content, the llm matcher and placeholders read requests for Anthropic's API like those for OpenAI's.
func TestRoutesMessagesByContent(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	caddyfile, url := site(t, `	llm_proxy {
		upstream u openai `+fake.URL()+`
		model coder {
			@hard expression {llm.prompt_tokens} > 4000 || {llm.tools} > 1
			@title llm {
				content "(?i)write a title"
				max_tokens <100
				endpoint messages count_tokens
			}
			@images llm images >0
			@schema llm json_schema
			@agent header X-Claude-Code-Agent-Id *
			route @hard u/hard
			route @title u/title
			route @images u/images
			route @schema u/schema
			route @agent u/agent
			route u/rest
		}
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	const tool = `{"name":"f","input_schema":{"type":"object"}}`
	const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
	for _, test := range []struct{ name, part, header, target string }{
		{"nothing matches", `"messages":[{"role":"user","content":"Hi"}]`, "", "u/rest"},
		{"a long system prompt", `"system":[{"type":"text","text":"` + strings.Repeat("word ", 4000) + `"}],"messages":[{"role":"user","content":"Hi"}]`, "", "u/hard"},
		{"tools", `"tools":[` + tool + `,` + strings.Replace(tool, `"f"`, `"g"`, 1) + `],"messages":[{"role":"user","content":"Hi"}]`, "", "u/hard"},
		{"content", `"messages":[{"role":"user","content":[{"type":"text","text":"Please write a title."}]}]`, "", "u/title"},
		{"an image", `"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + pixel + `"}}]}]`, "", "u/images"},
		{"a schema", `"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}},"messages":[{"role":"user","content":"Hi"}]`, "", "u/schema"},
		{"a header", `"messages":[{"role":"user","content":"Hi"}]`, "X-Claude-Code-Agent-Id", "u/agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.header != "" {
				header = []string{test.header, "a"}
			}
			res := send(t, newRequest(t, http.MethodPost, url+"/v1/messages?beta=true", `{"model":"coder","max_tokens":50,`+test.part+`}`, header...))
			if got := res.Header.Get("X-LLM-Target"); got != test.target || res.StatusCode != http.StatusOK {
				t.Errorf("status %d, target %q: %s", res.StatusCode, got, text(t, res))
			}
		})
	}
}

// Models that stay loaded are loaded without a request of a client, and nothing is generated.
func TestWarm(t *testing.T) {
	fake := fakellm.Start(t, "ollama")
	caddyfile, _ := site(t, `	llm_proxy {
		upstream gpu ollama `+fake.URL()+` {
			warm first second
		}
		model m gpu/first
	}`)
	if err := load(t, caddyfile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the models are not loaded", func() bool {
		loaded := 0
		for _, p := range fake.Probes() {
			if p.Path == "/api/generate" && strings.Contains(string(p.Body), `"keep_alive":"10m"`) {
				loaded++
			}
		}
		return loaded == 2
	})
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("%d requests generate", n)
	}
}
