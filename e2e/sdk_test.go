package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	openaigo "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	goopenai "github.com/sashabaranov/go-openai"
)

// An sdk is an official SDK that is used by a script.
type sdk struct {
	name   string
	checks int // in its script "checks"; a lost one is a failure
	script func(name string, args ...string) (env []string, command []string)
}

func sdks() []sdk {
	return []sdk{
		{"python", 15, func(name string, args ...string) ([]string, []string) {
			return nil, append([]string{installed.python, "sdk/python_" + name + ".py"}, args...)
		}},
		{"node", 14, func(name string, args ...string) ([]string, []string) {
			return []string{"NODE_PATH=" + installed.nodeModules}, append([]string{installed.node, "sdk/node_" + name + ".cjs"}, args...)
		}},
	}
}

func TestSDK(t *testing.T) {
	g := sharedGateway(t)
	for _, k := range sdks() {
		for server, models := range map[string][2]string{
			"ollama": {"ollama-chat", "ollama-embed"}, "llamacpp": {"llama-chat", "llama-embed"}, "anthropic": {"claude-chat", "llama-embed"},
		} {
			t.Run(k.name+", "+server, func(t *testing.T) { k.check(t, g.url+"/v1", k.checks, "checks", "all", models[0], models[1]) })
		}
	}
}

// check runs a script and makes each check that it reports a subtest; there must be this many.
func (k sdk) check(t *testing.T, base string, checks int, script string, args ...string) {
	t.Helper()
	reports := strings.Split(strings.TrimSpace(k.run(t, base, script, args...)), "\n")
	for _, line := range reports {
		var report struct{ Check, Error string }
		if err := json.Unmarshal([]byte(line), &report); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		t.Run(report.Check, func(t *testing.T) {
			if report.Error != "" {
				t.Error(report.Error)
			}
		})
	}
	if len(reports) != checks {
		t.Errorf("%d checks, want %d", len(reports), checks)
	}
}

// run runs a script and returns its output.
func (k sdk) run(t *testing.T, base, script string, args ...string) (output string) {
	t.Helper()
	env, args := k.script(script, args...)
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(append(os.Environ(), "BASE_URL="+base), env...)
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return stdout.String()
}

// If the upstream is killed during a stream, the SDK must raise an error: nothing may look like a complete answer.
func TestSDKRaisesWhenCutOff(t *testing.T) {
	for _, k := range sdks() {
		t.Run(k.name, func(t *testing.T) {
			victim := startLlama(t, "slow")
			g := startGateway(t, fill(`
			llm_proxy {
				upstream victim llamacpp VICTIM
				model m victim/slow
			}`, "VICTIM", victim.url()))
			env, args := k.script("checks", "until_error", "m")
			script, err := startProcess(k.name, append(env, "BASE_URL="+g.url+"/v1"), args[0], args[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			script.stopAfter(t)
			script.log.waitFor(t, 0, " two\n", time.Minute)
			victim.kill()
			script.log.waitFor(t, 0, "APIError upstream_error", time.Minute)
			<-script.done
			if code := script.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestOpenAIGo(t *testing.T) {
	g := sharedGateway(t)
	client := openaigo.NewClient(option.WithBaseURL(g.url+"/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0))
	for _, s := range append(chatServers, translated) {
		question := openaigo.ChatCompletionNewParams{Model: s.model, Messages: []openaigo.ChatCompletionMessageParamUnion{openaigo.UserMessage("hi")}}
		t.Run("chat, "+s.name, func(t *testing.T) {
			answer, err := client.Chat.Completions.New(t.Context(), question)
			if err != nil || answer.Choices[0].Message.Content != hello {
				t.Errorf("got %+v, %v", answer, err)
			}
		})
		t.Run("stream, "+s.name, func(t *testing.T) {
			events := client.Chat.Completions.NewStreaming(t.Context(), question)
			var whole openaigo.ChatCompletionAccumulator
			for events.Next() {
				whole.AddChunk(events.Current())
			}
			if err := events.Err(); err != nil || len(whole.Choices) != 1 || whole.Choices[0].Message.Content != hello {
				t.Errorf("got %+v, %v", whole.Choices, err)
			}
		})
		t.Run("tools, "+s.name, func(t *testing.T) {
			question := question
			question.Tools = []openaigo.ChatCompletionToolUnionParam{openaigo.ChatCompletionFunctionTool(openaigo.FunctionDefinitionParam{
				Name: "get_weather", Parameters: openaigo.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]string{"type": "string"}}},
			})}
			answer, err := client.Chat.Completions.New(t.Context(), question)
			if err != nil || len(answer.Choices[0].Message.ToolCalls) != 1 || answer.Choices[0].Message.ToolCalls[0].Function.Name != "get_weather" {
				t.Errorf("got %+v, %v", answer, err)
			}
		})
	}
	t.Run("responses", func(t *testing.T) {
		question := responses.ResponseNewParams{Model: "llama-chat", Input: responses.ResponseNewParamsInputUnion{OfString: openaigo.String("hi")}}
		answer, err := client.Responses.New(t.Context(), question)
		if err != nil || answer.OutputText() != hello {
			t.Errorf("got %+v, %v", answer, err)
		}
		var text, last string
		events := client.Responses.NewStreaming(t.Context(), question)
		for events.Next() {
			event := events.Current()
			if last = event.Type; last == "response.output_text.delta" {
				text += event.Delta
			}
		}
		if err := events.Err(); err != nil || text != hello || last != "response.completed" {
			t.Errorf("got %q, then %s, %v", text, last, err)
		}
	})
	t.Run("embeddings", func(t *testing.T) {
		for _, model := range []string{"ollama-embed", "llama-embed"} {
			answer, err := client.Embeddings.New(t.Context(), openaigo.EmbeddingNewParams{
				Model: model, Input: openaigo.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "another"}},
			})
			if err != nil || len(answer.Data) != 2 || len(answer.Data[0].Embedding) != 64 {
				t.Errorf("%s: got %+v, %v", model, answer, err)
			}
		}
	})
	t.Run("models", func(t *testing.T) {
		var ids []string
		for pages := client.Models.ListAutoPaging(t.Context()); pages.Next(); {
			ids = append(ids, pages.Current().ID)
		}
		one, err := client.Models.Get(t.Context(), "org/chat:v1")
		if err != nil || one.ID != "org/chat:v1" || !slices.Contains(ids, "llama-chat") {
			t.Errorf("got %+v, %v; list %q", one, err, ids)
		}
	})
	t.Run("unknown model", func(t *testing.T) {
		_, err := client.Chat.Completions.New(t.Context(), openaigo.ChatCompletionNewParams{Model: "nobody-has-this"})
		var failure *openaigo.Error
		if !errors.As(err, &failure) || failure.StatusCode != http.StatusNotFound || failure.Code != "model_not_found" {
			t.Errorf("got %v", err)
		}
	})
}

func TestSashabaranovGoOpenAI(t *testing.T) {
	g := sharedGateway(t)
	config := goopenai.DefaultConfig("unused")
	config.BaseURL = g.url + "/v1"
	client := goopenai.NewClientWithConfig(config)
	for _, s := range append(chatServers, translated) {
		question := goopenai.ChatCompletionRequest{Model: s.model, Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "hi"}}}
		t.Run("chat, "+s.name, func(t *testing.T) {
			answer, err := client.CreateChatCompletion(t.Context(), question)
			if err != nil || answer.Choices[0].Message.Content != hello {
				t.Errorf("got %+v, %v", answer, err)
			}
		})
		t.Run("stream, "+s.name, func(t *testing.T) {
			events, err := client.CreateChatCompletionStream(t.Context(), question)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = events.Close() }()
			var text string
			for {
				chunk, err := events.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				text += chunk.Choices[0].Delta.Content
			}
			if text != hello {
				t.Errorf("got %q", text)
			}
		})
	}
	t.Run("embeddings", func(t *testing.T) {
		for _, model := range []string{"ollama-embed", "llama-embed"} {
			answer, err := client.CreateEmbeddings(t.Context(), goopenai.EmbeddingRequest{Model: goopenai.EmbeddingModel(model), Input: []string{"one", "another"}})
			if err != nil || len(answer.Data) != 2 || len(answer.Data[0].Embedding) != 64 {
				t.Errorf("%s: got %+v, %v", model, answer, err)
			}
		}
	})
	t.Run("models", func(t *testing.T) {
		list, err := client.ListModels(t.Context())
		if err != nil || !slices.ContainsFunc(list.Models, func(m goopenai.Model) bool { return m.ID == "org/chat:v1" }) {
			t.Errorf("got %+v, %v", list, err)
		}
		one, err := client.GetModel(t.Context(), "org/chat:v1")
		if err != nil || one.ID != "org/chat:v1" {
			t.Errorf("got %+v, %v", one, err)
		}
	})
	t.Run("unknown model", func(t *testing.T) {
		_, err := client.CreateChatCompletion(t.Context(), goopenai.ChatCompletionRequest{Model: "nobody-has-this"})
		var failure *goopenai.APIError
		if !errors.As(err, &failure) || failure.HTTPStatusCode != http.StatusNotFound || failure.Code != "model_not_found" {
			t.Errorf("got %v", err)
		}
	})
}
