package openai

import "slices"

// The endpoints of Ollama's API that generate or embed. Their paths are not below /v1.
var (
	OllamaChat       = &Endpoint{Name: "ollama_chat", Path: "/api/chat", Texts: true, Foreign: true}
	OllamaGenerate   = &Endpoint{Name: "ollama_generate", Path: "/api/generate", Texts: true, Foreign: true}
	OllamaEmbed      = &Endpoint{Name: "ollama_embed", Path: "/api/embed", Texts: true, Vectors: true, Foreign: true}
	OllamaEmbeddings = &Endpoint{Name: "ollama_embeddings", Path: "/api/embeddings", Texts: true, Vectors: true, Foreign: true}
)

// ollamaLists are the paths of Ollama's API that describe the server and its models.
var ollamaLists = []string{"/api/tags", "/api/show", "/api/ps", "/api/version"}

// isOllamaPath reports whether a path, in lower case, is one of Ollama's API that is served.
func isOllamaPath(lower string) bool {
	e, ok := endpointByPath[lower]
	return ok && e.Path == lower || slices.Contains(ollamaLists, lower)
}
