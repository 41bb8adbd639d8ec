package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ollama/ollama/api"
)

// The checks in python_ollama.py and node_ollama.cjs.
const (
	ollamaPythonChecks = 18
	ollamaNodeChecks   = 10
)

// Clients of Ollama's API are served by every kind of upstream.
func TestOllamaSDK(t *testing.T) {
	g := sharedGateway(t)
	for _, k := range sdks() {
		checks := map[string]int{"python": ollamaPythonChecks, "node": ollamaNodeChecks}[k.name]
		for _, s := range messagesServers {
			embedder := "llama-embed"
			if s.name == "ollama" {
				embedder = "ollama-embed"
			}
			t.Run(k.name+", "+s.name, func(t *testing.T) {
				k.check(t, g.url, checks, "ollama", "all", s.model, s.abilities, embedder)
			})
			t.Run(k.name+", "+s.name+", leaves", func(t *testing.T) {
				log := s.log(servers(t))
				mark := log.mark()
				k.run(t, g.url, "ollama", "leave", s.slow)
				log.waitFor(t, mark, s.left, soon)
			})
		}
	}
}

// ollamaClient returns a client of the Go package at an address.
func ollamaClient(t *testing.T, address string) *api.Client {
	t.Helper()
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return api.NewClient(base, http.DefaultClient)
}

// ollamaChat returns the parts of an answer.
func ollamaChat(ctx context.Context, client *api.Client, request *api.ChatRequest) (parts []api.ChatResponse, err error) {
	err = client.Chat(ctx, request, func(part api.ChatResponse) error {
		parts = append(parts, part)
		return nil
	})
	return parts, err
}

func contentOf(parts []api.ChatResponse) (text string) {
	for _, p := range parts {
		text += p.Message.Content
	}
	return text
}

func TestOllamaGo(t *testing.T) {
	client := ollamaClient(t, sharedGateway(t).url)
	for _, s := range messagesServers {
		for _, stream := range []bool{false, true} {
			parts, err := ollamaChat(t.Context(), client, &api.ChatRequest{Model: s.model, Stream: &stream, Messages: []api.Message{{Role: "user", Content: "hi"}}})
			if err != nil || contentOf(parts) != hello {
				t.Fatalf("%s, stream %v: got %+v, %v", s.name, stream, parts, err)
			}
			if last := parts[len(parts)-1]; !last.Done || last.DoneReason != "stop" || last.PromptEvalCount == 0 || last.EvalCount == 0 || last.TotalDuration == 0 || last.CreatedAt.IsZero() {
				t.Errorf("%s, stream %v: the end is %+v", s.name, stream, last)
			}
		}
		var text string
		if err := client.Generate(t.Context(), &api.GenerateRequest{Model: s.model, Prompt: "hi"}, func(part api.GenerateResponse) error {
			text += part.Response
			return nil
		}); err != nil || text != hello {
			t.Errorf("%s: generated %q, %v", s.name, text, err)
		}
		if shown, err := client.Show(t.Context(), &api.ShowRequest{Model: s.model}); err != nil || len(shown.Capabilities) == 0 || shown.ModelInfo["general.architecture"] == nil {
			t.Errorf("%s: shown %+v, %v", s.name, shown, err)
		}
	}
	if version, err := client.Version(t.Context()); err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}
	if err := client.Heartbeat(t.Context()); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	list, err := client.List(t.Context())
	if err != nil || !slices.ContainsFunc(list.Models, func(m api.ListModelResponse) bool { return m.Model == "claude-chat" && m.Digest != "" }) {
		t.Errorf("list %+v, %v", list, err)
	}
	if running, err := client.ListRunning(t.Context()); err != nil || !slices.ContainsFunc(running.Models, func(m api.ProcessModelResponse) bool { return m.Model != "" && !m.ExpiresAt.IsZero() }) {
		t.Errorf("running %+v, %v", running, err)
	}
	for _, model := range []string{"ollama-embed", "llama-embed"} {
		if answer, err := client.Embed(t.Context(), &api.EmbedRequest{Model: model, Input: []string{"one", "another"}}); err != nil || len(answer.Embeddings) != 2 || len(answer.Embeddings[0]) != 64 {
			t.Errorf("%s: %+v, %v", model, answer, err)
		}
	}
	_, err = ollamaChat(t.Context(), client, &api.ChatRequest{Model: "nobody-has-this", Messages: []api.Message{{Role: "user", Content: "hi"}}})
	var failure api.StatusError
	if !errors.As(err, &failure) || failure.StatusCode != http.StatusNotFound || failure.ErrorMessage == "" {
		t.Errorf("an unknown model: %#v", err)
	}
	if err := client.Delete(t.Context(), &api.DeleteRequest{Model: "ollama-chat"}); err == nil || !strings.Contains(err.Error(), "for everybody") {
		t.Errorf("deleting: %v", err)
	}
}

// A stream of any API that breaks is an error for Ollama's clients.
func TestOllamaStreamBreaks(t *testing.T) {
	for _, kind := range []string{"openai", "anthropic"} {
		g := startGateway(t, fill("\tllm_proxy {\n\t\tupstream u KIND ADDRESS {\n\t\t\tapi_key unused\n\t\t}\n\t\tmodel m u/fake\n\t}", "KIND", kind, "ADDRESS", startFake(t, kind).url()))
		parts, err := ollamaChat(t.Context(), ollamaClient(t, g.url), &api.ChatRequest{Model: "m", Messages: []api.Message{{Role: "user", Content: "BREAK"}}})
		if err == nil || contentOf(parts) == "" || slices.ContainsFunc(parts, func(p api.ChatResponse) bool { return p.Done }) {
			t.Errorf("%s: got %+v, %v", kind, parts, err)
		}
	}
}

// terminalCode is what the command writes to steer the terminal.
var terminalCode = regexp.MustCompile("\x1b\\[[?0-9]*[a-zA-Z]")

// Ollama's own command works with the gateway instead of a server.
func TestOllamaCommand(t *testing.T) {
	g := startGateway(t, fill(`
	llm_proxy {
		upstream ollama ollama OLLAMA
		upstream llama llamacpp LLAMA
		upstream openai openai OPENAI
		upstream anthropic anthropic ANTHROPIC {
			api_key unused
		}
		model ollama-chat ollama/tiny:latest
		model llama-chat llama/tiny
		model openai-chat openai/fake
		model claude-chat anthropic/fake
	}`, "OLLAMA", servers(t).ollama.url(), "LLAMA", servers(t).llama.url(), "OPENAI", servers(t).openai.url(), "ANTHROPIC", servers(t).anthropic.url()))
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, installed.ollama, args...)
		command.Env = append(os.Environ(), "OLLAMA_HOST="+g.url, "HOME="+t.TempDir())
		output, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("ollama %s: %v\n%s", strings.Join(args, " "), err, output)
		}
		return terminalCode.ReplaceAllString(string(output), "")
	}
	for _, s := range messagesServers {
		if got := run("run", s.model, "hi"); !strings.Contains(got, hello) {
			t.Errorf("ollama run %s: %q", s.model, got)
		}
		if got := run("show", s.model); !strings.Contains(got, "context length") || !strings.Contains(got, "completion") {
			t.Errorf("ollama show %s: %q", s.model, got)
		}
	}
	list := run("list")
	for _, want := range []string{"NAME", "ollama-chat", "llama-chat", "openai-chat", "claude-chat"} {
		if !strings.Contains(list, want) {
			t.Errorf("ollama list has no %s: %s", want, list)
		}
	}
	if got := run("ps"); !strings.Contains(got, "UNTIL") || !strings.Contains(got, "ollama-chat") {
		t.Errorf("ollama ps: %q", got)
	}
}

// Through the gateway, a real Ollama answers as it does directly, but for what takes a different time each time. The model is named as
// Ollama does: to a name of the gateway's, the answer has the one that it leads to.
func TestOllamaAgrees(t *testing.T) {
	ollama := servers(t).ollama
	g := startGateway(t, fill("\tllm_proxy {\n\t\tupstream ollama ollama OLLAMA\n\t}", "OLLAMA", ollama.url()))
	weather := `{"type":"function","function":{"name":"get_weather","description":"The weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}`
	for _, test := range []struct{ name, path, body string }{
		{"chat", "/api/chat", `{"model":"tiny:latest","stream":false,"messages":[{"role":"user","content":"hi"}]}`},
		{"chat, streamed", "/api/chat", `{"model":"tiny:latest","messages":[{"role":"user","content":"hi"}]}`},
		{"options", "/api/chat", `{"model":"tiny:latest","stream":false,"options":{"num_predict":3,"temperature":0,"seed":1},"messages":[{"role":"user","content":"LONG"}]}`},
		{"tools", "/api/chat", `{"model":"tiny:latest","stream":false,"messages":[{"role":"user","content":"weather"}],"tools":[` + weather + `]}`},
		{"tools, streamed", "/api/chat", `{"model":"tiny:latest","messages":[{"role":"user","content":"weather"}],"tools":[` + weather + `]}`},
		{"generate", "/api/generate", `{"model":"tiny:latest","stream":false,"prompt":"hi","system":"Be short."}`},
		{"generate, streamed", "/api/generate", `{"model":"tiny:latest","prompt":"hi"}`},
		{"load", "/api/generate", `{"model":"tiny:latest"}`},
		{"load by chat", "/api/chat", `{"model":"tiny:latest","messages":[]}`},
		{"embed", "/api/embed", `{"model":"tiny-embed:latest","input":["one","another"]}`},
		{"embeddings", "/api/embeddings", `{"model":"tiny-embed:latest","prompt":"one"}`},
		{"an unknown model", "/api/chat", `{"model":"nobody-has-this","messages":[{"role":"user","content":"hi"}]}`},
		{"no model", "/api/chat", `{"messages":[{"role":"user","content":"hi"}]}`},
		{"no tools", "/api/chat", `{"model":"tiny-embed:latest","messages":[{"role":"user","content":"hi"}]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			direct, through := do(t, http.MethodPost, ollama.url()+test.path, test.body), do(t, http.MethodPost, g.url+test.path, test.body)
			if direct.status != through.status {
				t.Errorf("status %d, directly %d: %s, directly %s", through.status, direct.status, through.body, direct.body)
			}
			if direct.status != http.StatusOK {
				return
			}
			if a, b := mediaType(direct), mediaType(through); a != b {
				t.Errorf("Content-Type %s, directly %s", b, a)
			}
			if diff := cmp.Diff(timeless(t, direct.body), timeless(t, through.body)); diff != "" {
				t.Errorf("-directly +through the gateway:\n%s", diff)
			}
		})
	}
}

func mediaType(r reply) string {
	media, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	return media
}

// timeless decodes an answer of one or more lines, and replaces what differs each time: times and durations, which must be there, and
// where the text was divided into parts.
func timeless(t *testing.T, body []byte) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(string(body)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for name, value := range m {
			switch {
			case name == "created_at" || strings.HasSuffix(name, "_duration"):
				m[name] = value != "" && value != 0.0
			case name == "prompt_eval_count": // a prompt in Ollama's cache counts less
				m[name] = value != 0.0
			}
		}
		lines = append(lines, m)
	}
	return lines
}

// The client of the documentation reads the simple chat, whichever upstream answers.
func TestSimpleChat(t *testing.T) {
	f, python := servers(t), sdks()[0]
	for _, test := range []struct{ kind, address, model string }{
		{"ollama", f.ollama.url(), "tiny"}, {"llamacpp", f.llama.url(), "tiny"}, {"openai", f.openai.url(), "fake"}, {"anthropic", f.anthropic.url(), "fake"},
	} {
		t.Run(test.kind, func(t *testing.T) {
			g := startGateway(t, fill("\tllm_proxy {\n\t\tupstream u KIND ADDRESS {\n\t\t\tapi_key unused\n\t\t}\n\t\tmodel m u/MODEL\n\t\tsimple_chat\n\t}",
				"KIND", test.kind, "ADDRESS", test.address, "MODEL", test.model))
			python.check(t, g.url, 4, "simple", "all")
		})
	}
	t.Run("a stream that breaks", func(t *testing.T) {
		g := startGateway(t, fill("\tllm_proxy {\n\t\tupstream u openai ADDRESS\n\t\tmodel m u/fake\n\t\tsimple_chat\n\t}", "ADDRESS", startFake(t, "openai").url()))
		if raised := strings.TrimSpace(python.run(t, g.url, "simple", "breaks")); raised != "RemoteProtocolError" {
			t.Errorf("httpx raised %q", raised)
		}
	})
}
