package e2e

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	openaigo "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	goopenai "github.com/sashabaranov/go-openai"
)

func TestOpenAIGo(t *testing.T) {
	g := fleetGateway(t)
	client := openaigo.NewClient(option.WithBaseURL(g.url+"/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0))
	for _, s := range chatServers {
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
	g := fleetGateway(t)
	config := goopenai.DefaultConfig("unused")
	config.BaseURL = g.url + "/v1"
	client := goopenai.NewClientWithConfig(config)
	for _, s := range chatServers {
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
