package dialect

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ollama"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

var embeddings, _ = openai.LookupEndpoint("/v1/embeddings")

// ollamaEndpoints are the endpoints of Ollama's API.
var ollamaEndpoints = []*Endpoint{
	{Endpoint: openai.OllamaChat, API: Ollama, Becomes: chat, Request: ollamaRequest(ChatFromOllama), Plain: plainOllama, Answer: ollamaChat, Events: ollama.Events{}},
	{Endpoint: openai.OllamaGenerate, API: Ollama, Becomes: chat, Request: ollamaRequest(ChatFromGenerate), Plain: plainOllama, Answer: ollamaGenerate, Events: ollama.Events{}},
	{Endpoint: openai.OllamaEmbed, API: Ollama, Becomes: embeddings, Request: withoutNames(EmbeddingsFromOllama), Answer: ollamaEmbed},
	{Endpoint: openai.OllamaEmbeddings, API: Ollama, Becomes: embeddings, Request: withoutNames(EmbeddingsFromOllama), Answer: ollamaEmbeddings},
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

// A lineAnswer is an Answer of /api/chat or /api/generate.
type lineAnswer struct{ OllamaStream }

// Whole implements Answer.
func (a *lineAnswer) Whole(answer []byte) ([]byte, bool) {
	return OllamaFromChat(answer, &a.OllamaStream)
}

func ollamaChat(a About) Answer {
	return &lineAnswer{OllamaStream{Model: a.Model, Started: a.Started}}
}

func ollamaGenerate(a About) Answer {
	return &lineAnswer{OllamaStream{Model: a.Model, Started: a.Started, Generate: true}}
}

// A vectorAnswer is an Answer with embeddings.
type vectorAnswer struct {
	OllamaStream
	legacy bool
}

// Whole implements Answer.
func (a *vectorAnswer) Whole(answer []byte) ([]byte, bool) {
	return EmbedFromEmbeddings(answer, &a.OllamaStream, a.legacy)
}

func ollamaEmbed(a About) Answer {
	return &vectorAnswer{OllamaStream: OllamaStream{Model: a.Model, Started: a.Started}}
}

func ollamaEmbeddings(a About) Answer {
	return &vectorAnswer{OllamaStream: OllamaStream{Model: a.Model, Started: a.Started}, legacy: true}
}

// ShownModel returns the model that a request for /api/show names, as "model" or, in old clients, as "name".
func ShownModel(body []byte) (string, *openai.Error) {
	v, err := exact(body, "", []string{"model", "name"})
	if err != nil {
		return "", err
	}
	model := str(v["model"])
	if model == "" {
		model = str(v["name"])
	}
	if model == "" {
		return "", invalid("model", "is missing; name the model to describe")
	}
	return model, nil
}
