package dialect

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ollama"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

var embeddings, _ = openai.LookupEndpoint("/v1/embeddings")

// ollamaEndpoints are the endpoints of Ollama's API.
var ollamaEndpoints = []*Endpoint{
	{Endpoint: openai.OllamaChat, API: Ollama, Becomes: chat, Request: ollamaRequest(ChatFromOllama), Plain: plainOllama, Whole: OllamaFromChat, Stream: ollamaStream, Events: ollama.Events{}},
	{Endpoint: openai.OllamaGenerate, API: Ollama, Becomes: chat, Request: ollamaRequest(ChatFromGenerate), Plain: plainOllama, Whole: GenerateFromChat, Stream: generateStream, Events: ollama.Events{}},
	{Endpoint: openai.OllamaEmbed, API: Ollama, Becomes: embeddings, Request: withoutNames(EmbeddingsFromOllama), Whole: EmbedFromEmbeddings},
	{Endpoint: openai.OllamaEmbeddings, API: Ollama, Becomes: embeddings, Request: withoutNames(EmbeddingsFromOllama), Whole: EmbeddingFromEmbeddings},
}

// withoutNames returns a translation of requests that changes no names of tools.
func withoutNames(translate func(*jsonspan.Object, ChatOptions) ([]byte, *openai.Error)) func(*jsonspan.Object, ChatOptions) ([]byte, *ToolNames, *openai.Error) {
	return func(r *jsonspan.Object, o ChatOptions) ([]byte, *ToolNames, *openai.Error) {
		body, err := translate(r, o)
		return body, nil, err
	}
}

// ollamaRequest is withoutNames for endpoints at which a request without input loads the model. Such a request becomes one without messages.
func ollamaRequest(translate func(*jsonspan.Object, ChatOptions) ([]byte, *openai.Error)) func(*jsonspan.Object, ChatOptions) ([]byte, *ToolNames, *openai.Error) {
	return withoutNames(func(r *jsonspan.Object, o ChatOptions) ([]byte, *openai.Error) {
		if _, ok := LoadsOnly(r); !ok {
			return translate(r, o)
		}
		w := writer{[]byte{'{'}}
		if model, ok := r.Get("model"); ok {
			w.member("model", model)
		}
		w.raw(`,"messages":[]}`)
		return w.b, nil
	})
}

func ollamaStream(a *About) Stream { return &OllamaStream{Model: a.Model, Started: a.Started} }

func generateStream(a *About) Stream {
	return &OllamaStream{Model: a.Model, Started: a.Started, Generate: true}
}

// ShownModel returns the model that a request for /api/show names, as "model" or, in old clients, as "name".
func ShownModel(body []byte) (string, *openai.Error) {
	v, err := exact(body, "", []string{"model", "name"})
	if err != nil {
		return "", err
	}
	model := str(v.get("model"))
	if model == "" {
		model = str(v.get("name"))
	}
	if model == "" {
		return "", invalid("model", "is missing; name the model to describe")
	}
	return model, nil
}
