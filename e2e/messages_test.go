package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

// messagesServers are the upstreams that clients of Anthropic's API reach at sharedGateway. The last one has that API itself; for the
// others, the gateway translates.
var messagesServers = []struct {
	name, model string
	abilities   string // thinking; images, or blind: Ollama 0.11.4 ignores images that its model cannot see, where llama.cpp refuses them
	slow        string // a model whose answer to LONG takes minutes
	log         func(*serverSet) *logBuffer
	busy, left  string // in that log, when the server has the request, and as soon as it knows that the client is gone
}{
	{"ollama", "ollama-chat", "blind", "ollama-slow", func(f *serverSet) *logBuffer { return f.ollama.log }, "loading cache slot", "context for request finished"},
	{"llamacpp", "llama-chat", "thinking", "llama-slow", func(f *serverSet) *logBuffer { return f.slow.log }, "processing task", "cancel task"},
	{"openai", "openai-chat", "thinking,images", "openai-chat", func(f *serverSet) *logBuffer { return f.openai.log }, "received POST /v1/chat/completions", "abandoned POST /v1/chat/completions"},
	{"anthropic", "claude-chat", "thinking,images", "claude-chat", func(f *serverSet) *logBuffer { return f.anthropic.log }, "received POST /v1/messages", "abandoned POST /v1/messages"},
}

const messagesChecks = 14 // in each of the scripts

func TestAnthropicSDK(t *testing.T) {
	g := sharedGateway(t)
	for _, k := range sdks() {
		for _, s := range messagesServers {
			t.Run(k.name+", "+s.name, func(t *testing.T) {
				k.check(t, g.url, messagesChecks, "messages", "all", s.model, s.abilities)
			})
			t.Run(k.name+", "+s.name+", leaves", func(t *testing.T) {
				log := s.log(servers(t))
				mark := log.mark()
				k.run(t, g.url, "messages", "leave", s.slow)
				log.waitFor(t, mark, s.left, soon)
			})
		}
	}
}

func TestAnthropicGo(t *testing.T) {
	g := sharedGateway(t)
	client := anthropic.NewClient(option.WithBaseURL(g.url), option.WithAPIKey("unused"), option.WithMaxRetries(0))
	user := func(text string) []anthropic.MessageParam {
		return []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))}
	}
	for _, s := range messagesServers {
		ask := map[string]func(anthropic.MessageNewParams) (*anthropic.Message, error){
			"whole": func(p anthropic.MessageNewParams) (*anthropic.Message, error) {
				return client.Messages.New(t.Context(), p)
			},
			"streamed": func(p anthropic.MessageNewParams) (*anthropic.Message, error) {
				events, message := client.Messages.NewStreaming(t.Context(), p), new(anthropic.Message)
				for events.Next() {
					if err := message.Accumulate(events.Current()); err != nil {
						return nil, err
					}
				}
				return message, events.Err()
			},
		}
		for mode, ask := range ask {
			t.Run("text, "+s.name+", "+mode, func(t *testing.T) {
				answer, err := ask(anthropic.MessageNewParams{Model: s.model, MaxTokens: 200, Messages: user("hi")})
				if err != nil || textOf(answer) != hello || answer.StopReason != "end_turn" || answer.Usage.InputTokens == 0 || answer.Usage.OutputTokens == 0 {
					t.Errorf("got %+v, %v", answer, err)
				}
			})
			t.Run("tools, "+s.name+", "+mode, func(t *testing.T) { fetchAndStore(t, s.model, ask) })
			t.Run("thinking, "+s.name+", "+mode, func(t *testing.T) {
				answer, err := ask(anthropic.MessageNewParams{
					Model: s.model, MaxTokens: 1100, Messages: user("THINK"), Thinking: anthropic.ThinkingConfigParamOfEnabled(1024),
				})
				if err != nil || !strings.Contains(textOf(answer), hello) {
					t.Fatalf("got %+v, %v", answer, err)
				}
				if first := answer.Content[0]; strings.Contains(s.abilities, "thinking") && (!strings.Contains(first.Thinking, "wants a greeting") || first.Signature == "") {
					t.Errorf("got %+v", answer.Content)
				}
			})
			t.Run("an image, "+s.name+", "+mode, func(t *testing.T) {
				const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
				answer, err := ask(anthropic.MessageNewParams{
					Model: s.model, MaxTokens: 200, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewImageBlockBase64("image/png", pixel))},
				})
				want := "An image/png of 96 characters."
				if s.abilities == "blind" {
					want = hello
				}
				if s.name == "llamacpp" {
					wantAnthropicError(t, err, http.StatusBadRequest, "invalid_request_error")
				} else if err != nil || textOf(answer) != want {
					t.Errorf("got %+v, %v", answer, err)
				}
			})
		}
		t.Run("count tokens, "+s.name, func(t *testing.T) {
			count, err := client.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{Model: s.model, Messages: user("hi")})
			if err != nil || count.InputTokens == 0 {
				t.Errorf("got %+v, %v", count, err)
			}
		})
		for _, mode := range []string{"stream", "not a stream"} {
			t.Run("leaves, "+s.name+", "+mode, func(t *testing.T) {
				log := s.log(servers(t))
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				question := anthropic.MessageNewParams{Model: s.slow, MaxTokens: 4000, Messages: user("LONG")}
				mark, gone := log.mark(), make(chan struct{})
				if mode == "stream" {
					close(gone)
					events := client.Messages.NewStreaming(ctx, question)
					for events.Next() && events.Current().Type != "content_block_delta" {
					}
					if events.Err() != nil {
						t.Fatal(events.Err())
					}
				} else {
					go func() {
						defer close(gone)
						_, _ = client.Messages.New(ctx, question) // fails: the client leaves
					}()
					log.waitFor(t, mark, s.busy, soon)
				}
				leave()
				<-gone
				log.waitFor(t, mark, s.left, soon)
			})
		}
	}
	t.Run("models", func(t *testing.T) {
		var ids []string
		pages := client.Models.ListAutoPaging(t.Context(), anthropic.ModelListParams{Limit: anthropic.Int(2)})
		for pages.Next() {
			ids = append(ids, pages.Current().ID)
		}
		one, err := client.Models.Get(t.Context(), "claude-chat", anthropic.ModelGetParams{})
		if pages.Err() != nil || err != nil || one.DisplayName == "" || len(ids) < 8 || !slices.Contains(ids, one.ID) {
			t.Errorf("got %+v, %v; list %q, %v", one, err, ids, pages.Err())
		}
	})
}

// fetchAndStore plays the three turns of a task with the tools Read and Write.
func fetchAndStore(t *testing.T, model string, ask func(anthropic.MessageNewParams) (*anthropic.Message, error)) {
	t.Helper()
	// llama.cpp makes a model keep to the order of the properties.
	files := func(name, properties string) anthropic.ToolUnionParam {
		return anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{Properties: json.RawMessage(properties)}, name)
	}
	conversation := anthropic.MessageNewParams{
		Model: model, MaxTokens: 200, Tools: []anthropic.ToolUnionParam{
			files("Read", `{"file_path":{"type":"string"}}`), files("Write", `{"file_path":{"type":"string"},"content":{"type":"string"}}`),
		},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("FETCH the notes"))},
	}
	for _, turn := range []struct {
		tool   string
		input  map[string]string
		result string
	}{
		{"Read", map[string]string{"file_path": "notes.txt"}, "STORE these notes"},
		{"Write", map[string]string{"file_path": "KEPT.txt", "content": "kept"}, "written"},
	} {
		answer, err := ask(conversation)
		if err != nil || answer.StopReason != "tool_use" || len(answer.Content) != 1 || answer.Content[0].Name != turn.tool {
			t.Fatalf("%s: got %+v, %v", turn.tool, answer, err)
		}
		call := answer.Content[0]
		var input map[string]string
		if err := json.Unmarshal(call.Input, &input); err != nil || !maps.Equal(input, turn.input) {
			t.Errorf("%s: input %s, %v", turn.tool, call.Input, err)
		}
		conversation.Messages = append(conversation.Messages, answer.ToParam(), anthropic.NewUserMessage(anthropic.NewToolResultBlock(call.ID, turn.result, false)))
	}
	if answer, err := ask(conversation); err != nil || textOf(answer) != "The notes are kept safely." || answer.StopReason != "end_turn" {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func textOf(message *anthropic.Message) (text string) {
	for _, block := range message.Content {
		text += block.Text
	}
	return text
}

func wantAnthropicError(t *testing.T, err error, status int, kind string) {
	t.Helper()
	var failure *anthropic.Error
	if !errors.As(err, &failure) || failure.StatusCode != status || string(failure.Type()) != kind || failure.RequestID == "" {
		t.Errorf("got %v, want %d, %s", err, status, kind)
	}
}

// A failing is a request that must fail, and how the SDKs must raise that.
type failing struct {
	Name   string `json:"name"`
	Key    string `json:"key"`
	Model  string `json:"model"`
	Role   string `json:"role"`
	Prompt string `json:"prompt"`
	Class  string `json:"class"`  // in Python and Node; a stream that breaks raises the base class
	Status int    `json:"status"` // 0 for a stream that breaks
	Type   string `json:"type"`
}

// Each error is raised as its class, whether it is the gateway's own, of an upstream with Anthropic's API, or of one with OpenAI's.
func TestAnthropicErrors(t *testing.T) {
	cases := []failing{
		{"an invalid request", "sk-all", "gpt", "owl", "hi", "BadRequestError", 400, "invalid_request_error"},
		{"OpenAI's refusal", "sk-all", "gpt", "user", "STATUS 400", "BadRequestError", 400, "invalid_request_error"},
		{"Anthropic's refusal", "sk-all", "claude", "user", "STATUS 400", "BadRequestError", 400, "invalid_request_error"},
		{"a wrong key", "sk-nobody", "gpt", "user", "hi", "AuthenticationError", 401, "authentication_error"},
		{"a model that the key may not use", "sk-few", "claude", "user", "hi", "PermissionDeniedError", 403, "permission_error"},
		{"an unknown model", "sk-all", "nobody-has-this", "user", "hi", "NotFoundError", 404, "not_found_error"},
		{"too large", "sk-all", "gpt", "user", strings.Repeat("x", 70<<10), "ContentTooLargeError", 413, "request_too_large"},
		{"a used up key", "sk-once", "gpt", "user", "hi", "RateLimitError", 429, "rate_limit_error"},
		{"OpenAI's rate limit", "sk-all", "gpt", "user", "STATUS 429", "RateLimitError", 429, "rate_limit_error"},
		{"Anthropic's rate limit", "sk-all", "claude", "user", "STATUS 429", "RateLimitError", 429, "rate_limit_error"},
		{"Anthropic's overload", "sk-all", "claude", "user", "STATUS 529", "OverloadedError", 529, "overloaded_error"},
		{"a stream of OpenAI's that breaks", "sk-all", "gpt", "user", "BREAK", "", 0, "api_error"},
		{"a stream of Anthropic's that breaks", "sk-all", "claude", "user", "BREAK", "", 0, "overloaded_error"},
		{"OpenAI's failure", "sk-all", "gpt", "user", "STATUS 500", "InternalServerError", 502, "api_error"},
		{"Anthropic's failure", "sk-all", "claude", "user", "STATUS 500", "InternalServerError", 502, "api_error"},
	}
	for _, k := range append(sdks(), sdk{name: "go"}) {
		t.Run(k.name, func(t *testing.T) {
			// Own upstreams, because the circuit breaker of an address that keeps failing opens for all.
			g := startGateway(t, fill(`
			llm_proxy {
				upstream openai openai OPENAI
				upstream anthropic anthropic ANTHROPIC {
					api_key unused
				}
				model gpt openai/fake
				model claude anthropic/fake
				max_body 64KiB

				key all sk-all
				key few sk-few {
					models gpt
				}
				key once sk-once {
					rate 1/h
				}
			}`, "OPENAI", startFake(t, "openai").url(), "ANTHROPIC", startFake(t, "anthropic").url()))
			if used := do(t, http.MethodPost, g.url+"/v1/messages", `{"model":"gpt","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, "X-Api-Key", "sk-once"); used.status != http.StatusOK {
				t.Fatalf("status %d: %s", used.status, used.body)
			}
			if k.script != nil {
				list, err := json.Marshal(cases)
				if err != nil {
					t.Fatal(err)
				}
				k.check(t, g.url, len(cases), "messages", "errors", string(list))
				return
			}
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					client := anthropic.NewClient(option.WithBaseURL(g.url), option.WithAPIKey(c.Key), option.WithMaxRetries(0))
					message := anthropic.NewUserMessage(anthropic.NewTextBlock(c.Prompt))
					message.Role = anthropic.MessageParamRole(c.Role)
					events := client.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{Model: c.Model, MaxTokens: 10, Messages: []anthropic.MessageParam{message}})
					for events.Next() {
					}
					wantAnthropicError(t, events.Err(), cmp.Or(c.Status, http.StatusOK), c.Type)
				})
			}
		})
	}
}
