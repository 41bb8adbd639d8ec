// Package openai knows the shapes of OpenAI's dialect and reads them in place: which endpoints there are, what the gateway must
// know of a request, and what an answer, an event, an error or a usage object contains. It also converts whole answers into streams
// and back.
//
// It never decodes a request to encode it again, so that unknown fields, zero values, the spelling of numbers and the order of keys
// survive. It does not split streams into events and does no input or output. It stands above jsonspan and formdata.
package openai

import "slices"

// An Endpoint is an API path that the gateway serves, and how its requests and answers look.
type Endpoint struct {
	// Name is the endpoint's name in logs and placeholders.
	Name string
	// Path is the path below a server's base, which ends with "/v1" on most servers, or the whole path for Ollama's API.
	Path string
	// Form reports whether requests may be multipart forms.
	Form bool
	// Framing is how the events of its streams are structured.
	Framing Framing
	// UsageOnRequest reports whether streams include their usage only if stream_options asks for it.
	UsageOnRequest bool
	// Prompts reports whether a request may have several prompts, each with an answer of its own.
	Prompts bool
	// Cacheable reports whether an identical request may get the same answer.
	Cacheable bool
	// AnyAnswer reports whether an answer may be other than JSON or events: audio, subtitles.
	AnyAnswer bool
	// Vectors reports whether answers contain lists of numbers, which may be requested as base64.
	Vectors bool
	// Transcribes reports whether answers are transcriptions of audio, which may be billed by its length.
	Transcribes bool
	// Speaks reports whether answers are spoken texts, which may be billed by the character.
	Speaks bool
	// Ranks reports whether answers are rankings, which may be billed by the search.
	Ranks bool
	// Images reports whether answers are images, which may be billed by the image.
	Images bool
	// Texts reports whether requests and answers are texts, so that tokens can be estimated if the upstream does not report them.
	Texts bool
	// CountsOnly reports whether requests only ask for the tokens of a prompt, or for their number. Nothing is generated, nothing costs, and
	// no slot is needed.
	CountsOnly bool
	// Foreign reports whether the endpoint belongs to another API than OpenAI's, so that its requests are translated.
	Foreign bool
	// DefaultModel is the model that OpenAI documents for requests without one, or "" if requests must name one.
	DefaultModel string
}

// IsResponses reports whether this is the endpoint whose streams end with the event of a response: completed, incomplete or failed.
func (e *Endpoint) IsResponses() bool { return e.Name == "responses" }

// Writes reports whether answers are texts that a model writes.
func (e *Endpoint) Writes() bool { return e.Texts && (e.Streams() || e.Name == "responses_compact") }

// Streams reports whether answers may be streams of events that the gateway can convert from whole answers and back.
func (e *Endpoint) Streams() bool { return e.events() != otherEvents }

// An eventKind is what the events of an endpoint's streams are about, which decides how they are joined.
type eventKind uint8

const (
	otherEvents eventKind = iota
	chunksOfChoices
	responseEvents
	imageEvents
)

func (e *Endpoint) events() eventKind {
	switch {
	case e.UsageOnRequest:
		return chunksOfChoices
	case e.IsResponses():
		return responseEvents
	case e.Name == "image_generations", e.Name == "image_edits":
		return imageEvents
	}
	return otherEvents
}

var endpoints = []*Endpoint{
	{Name: "chat", Path: "/chat/completions", Framing: Chunks, UsageOnRequest: true, Texts: true, Cacheable: true},
	{Name: "completions", Path: "/completions", Framing: Chunks, UsageOnRequest: true, Prompts: true, Texts: true, Cacheable: true},
	{Name: "embeddings", Path: "/embeddings", Vectors: true, Texts: true, Cacheable: true},
	{Name: "responses", Path: "/responses", Framing: Typed, Texts: true, Cacheable: true},
	{Name: "responses_compact", Path: "/responses/compact", Texts: true},
	InputTokens,
	{Name: "moderations", Path: "/moderations", Texts: true, Cacheable: true, DefaultModel: "omni-moderation-latest"},
	{Name: "rerank", Path: "/rerank", Texts: true, Ranks: true, Cacheable: true},
	{Name: "transcriptions", Path: "/audio/transcriptions", Form: true, Transcribes: true, Framing: Typed, AnyAnswer: true},
	{Name: "translations", Path: "/audio/translations", Form: true, Transcribes: true, Framing: Typed, AnyAnswer: true},
	{Name: "speech", Path: "/audio/speech", Framing: Typed, Speaks: true, AnyAnswer: true},
	{Name: "image_generations", Path: "/images/generations", Framing: Typed, Images: true},
	{Name: "image_edits", Path: "/images/edits", Form: true, Framing: Typed, Images: true},
	{Name: "image_variations", Path: "/images/variations", Form: true, Framing: Typed, Images: true},
	Messages, CountTokens, Tokenize,
}

var ollamaEndpoints = []*Endpoint{OllamaChat, OllamaGenerate, OllamaEmbed, OllamaEmbeddings}

// EndpointNames returns the names of all endpoints.
func EndpointNames() []string {
	var names []string
	for _, e := range slices.Concat(endpoints, ollamaEndpoints) {
		names = append(names, e.Name)
	}
	return names
}

var endpointByPath = func() map[string]*Endpoint {
	byPath := make(map[string]*Endpoint, len(endpoints))
	for _, e := range endpoints {
		byPath[apiPrefix+e.Path] = e
	}
	for _, e := range append(ollamaEndpoints, Tokenize) { // vLLM and llama.cpp have it outside of /v1
		byPath[e.Path] = e
	}
	return byPath
}()

// apiPrefix precedes every path of OpenAI's API as the gateway serves it.
const apiPrefix = "/v1"

// LookupEndpoint returns the endpoint at a path such as /v1/chat/completions or /api/chat.
func LookupEndpoint(path string) (*Endpoint, bool) {
	e, ok := endpointByPath[path]
	return e, ok
}
