// Package openai knows the shapes of OpenAI's dialect and reads them in place: which endpoints there are, what the gateway must
// know of a request, and what an answer, an event, an error or a usage object contains. It also converts whole answers into streams
// and back.
//
// It never decodes a request to encode it again, so that unknown fields, zero values, the spelling of numbers and the order of keys
// survive. It does not split streams into events and does no input or output. It stands above jsonspan and formdata.
package openai

import "strings"

// An Endpoint is an API path that the gateway serves, and how its requests and answers look.
type Endpoint struct {
	// Name is the endpoint's name in logs and placeholders.
	Name string
	// Path is the path below a server's base, which ends with "/v1" on most servers.
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
	// Images reports whether answers are images, which may be billed by the image.
	Images bool
	// Texts reports whether requests and answers are texts, so that tokens can be estimated if the upstream does not report them.
	Texts bool
	// DefaultModel is the model that OpenAI documents for requests without one, or "" if requests must name one.
	DefaultModel string
}

// IsResponses reports whether this is the endpoint whose streams end with the event of a response: completed, incomplete or failed.
func (e *Endpoint) IsResponses() bool { return e.Name == "responses" }

// Streams reports whether answers may be streams of events that the gateway can convert from whole answers and back.
func (e *Endpoint) Streams() bool { return e.UsageOnRequest || e.IsResponses() }

var endpoints = []*Endpoint{
	{Name: "chat", Path: "/chat/completions", Framing: Chunks, UsageOnRequest: true, Texts: true, Cacheable: true},
	{Name: "completions", Path: "/completions", Framing: Chunks, UsageOnRequest: true, Prompts: true, Texts: true, Cacheable: true},
	{Name: "embeddings", Path: "/embeddings", Vectors: true, Texts: true, Cacheable: true},
	{Name: "responses", Path: "/responses", Framing: Typed, Texts: true, Cacheable: true},
	{Name: "moderations", Path: "/moderations", Texts: true, Cacheable: true, DefaultModel: "omni-moderation-latest"},
	{Name: "rerank", Path: "/rerank", Texts: true, Cacheable: true},
	{Name: "transcriptions", Path: "/audio/transcriptions", Form: true, Transcribes: true, Framing: Typed, AnyAnswer: true},
	{Name: "translations", Path: "/audio/translations", Form: true, Transcribes: true, Framing: Typed, AnyAnswer: true},
	{Name: "speech", Path: "/audio/speech", Framing: Typed, AnyAnswer: true},
	{Name: "image_generations", Path: "/images/generations", Framing: Typed, Images: true},
	{Name: "image_edits", Path: "/images/edits", Form: true, Framing: Typed, Images: true},
	{Name: "image_variations", Path: "/images/variations", Form: true, Framing: Typed, Images: true},
}

// EndpointNames returns the names of all endpoints.
func EndpointNames() []string {
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.Name
	}
	return names
}

var endpointByPath = func() map[string]*Endpoint {
	byPath := make(map[string]*Endpoint, len(endpoints))
	for _, e := range endpoints {
		byPath[apiPrefix+e.Path] = e
	}
	return byPath
}()

// apiPrefix precedes every path of OpenAI's API as the gateway serves it.
const apiPrefix = "/v1"

// LookupEndpoint returns the endpoint at a path such as /v1/chat/completions.
func LookupEndpoint(path string) (*Endpoint, bool) {
	e, ok := endpointByPath[path]
	return e, ok
}

// ModelPath returns the model in a path of the model list. It is empty for /v1/models itself, and may contain slashes.
func ModelPath(path string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(path, apiPrefix+"/models")
	if !ok || rest == "" {
		return "", ok
	}
	return strings.CutPrefix(rest, "/")
}

// closedPaths are paths of known APIs that are not served. Because all callers share one upstream key, these paths would show a
// caller what another one has stored, or change the server for everybody.
var closedPaths = []struct{ prefix, why string }{
	{"/v1/files", stored}, {"/v1/uploads", stored}, {"/v1/batches", stored}, {"/v1/vector_stores", stored},
	{"/v1/assistants", stored}, {"/v1/threads", stored}, {"/v1/conversations", stored}, {"/v1/containers", stored},
	{"/v1/fine_tuning", stored}, {"/v1/evals", stored}, {"/v1/responses/", stored}, {"/v1/chat/completions/", stored},
	{"/api/pull", manages}, {"/api/push", manages}, {"/api/create", manages}, {"/api/copy", manages},
	{"/api/delete", manages}, {"/api/blobs", manages},
	{"/v1/messages", otherDialect}, {"/api/chat", otherDialect}, {"/api/generate", otherDialect},
	{"/api/embed", otherDialect}, {"/api/tags", otherDialect}, {"/api/show", otherDialect}, {"/api/ps", otherDialect},
	{"/api/version", otherDialect},
}

const (
	stored = "it names no model, and with the gateway's upstream key it would show one caller what another has stored; " +
		"send the request to the service itself"
	manages      = "it would change the models of the server for everybody; run it on the server itself"
	otherDialect = "this gateway supports only OpenAI's API so far; use /v1/chat/completions, /v1/embeddings or /v1/models"
)

// ClosedPath reports whether a path belongs to a known API but is not served, and why.
func ClosedPath(path string) (why string, closed bool) {
	if bare, slash := strings.CutSuffix(path, "/"); slash {
		if _, ok := LookupEndpoint(bare); ok {
			return "it ends with a slash; remove it", true
		}
	}
	for _, c := range closedPaths {
		rest, ok := strings.CutPrefix(path, c.prefix)
		if ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(c.prefix, "/")) {
			return c.why, true
		}
	}
	return "", false
}
