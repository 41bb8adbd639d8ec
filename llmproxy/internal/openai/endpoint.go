package openai

import "strings"

// An Endpoint is an API path that the gateway serves, and how its requests and answers look.
type Endpoint struct {
	// Name is the endpoint's name in logs and placeholders.
	Name string
	// Path is the path below a server's base ("/v1" in most), as OpenAI has it.
	Path string
	// Form reports whether requests may be multipart forms.
	Form bool
	// Framing is how the events of its streams are to be read.
	Framing Framing
	// AsksUsage reports whether a stream counts its tokens only when stream_options asks for it.
	AsksUsage bool
	// Prompts reports whether a request may hold several prompts, each of which is answered.
	Prompts bool
	// Cacheable reports whether an answer may be given again to whoever asks the same.
	Cacheable bool
	// AnyAnswer reports whether an answer may be something else than JSON or events: audio, subtitles.
	AnyAnswer bool
	// Vectors reports whether its answers hold lists of numbers, which may be asked for as base64.
	Vectors bool
	// Texts reports whether what goes in and what comes out are texts, so that tokens can be estimated where nobody counts them.
	Texts bool
	// DefaultModel is the model that OpenAI documents for requests without one; empty where a request must name it.
	DefaultModel string
}

// Streams reports whether answers may come as a stream of events that the gateway knows how to make from a whole one, or to
// put together.
func (e *Endpoint) Streams() bool { return e.AsksUsage || e.Name == "responses" }

var endpoints = []*Endpoint{
	{Name: "chat", Path: "/chat/completions", Framing: Chunks, AsksUsage: true, Texts: true, Cacheable: true},
	{Name: "completions", Path: "/completions", Framing: Chunks, AsksUsage: true, Prompts: true, Texts: true, Cacheable: true},
	{Name: "embeddings", Path: "/embeddings", Vectors: true, Texts: true, Cacheable: true},
	{Name: "responses", Path: "/responses", Framing: Typed, Texts: true, Cacheable: true},
	{Name: "moderations", Path: "/moderations", Texts: true, Cacheable: true, DefaultModel: "omni-moderation-latest"},
	{Name: "rerank", Path: "/rerank", Texts: true, Cacheable: true},
	{Name: "transcriptions", Path: "/audio/transcriptions", Form: true, Framing: Typed, AnyAnswer: true},
	{Name: "translations", Path: "/audio/translations", Form: true, Framing: Typed, AnyAnswer: true},
	{Name: "speech", Path: "/audio/speech", Framing: Typed, AnyAnswer: true},
	{Name: "image_generations", Path: "/images/generations", Framing: Typed},
	{Name: "image_edits", Path: "/images/edits", Form: true, Framing: Typed},
	{Name: "image_variations", Path: "/images/variations", Form: true, Framing: Typed},
}

var endpointByPath = func() map[string]*Endpoint {
	byPath := make(map[string]*Endpoint, len(endpoints))
	for _, e := range endpoints {
		byPath[APIPrefix+e.Path] = e
	}
	return byPath
}()

// APIPrefix stands before every path of OpenAI's API as the gateway serves it.
const APIPrefix = "/v1"

// LookupEndpoint finds the endpoint that generates at a path such as /v1/chat/completions.
func LookupEndpoint(path string) (*Endpoint, bool) {
	e, ok := endpointByPath[path]
	return e, ok
}

// ModelPath reads the paths of the model list: the id is empty for /v1/models itself, and may hold slashes.
func ModelPath(path string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(path, APIPrefix+"/models")
	if !ok || rest == "" {
		return "", ok
	}
	return strings.CutPrefix(rest, "/")
}

// Behind one shared upstream key these would show one caller what another one stored there, or change the box for all.
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
	stored = "it names no model, and behind the gateway's own upstream key it would show one caller what another one stored; " +
		"send the request to the service itself"
	manages      = "it would change the models of the server for everybody; run it on the server itself"
	otherDialect = "this gateway speaks OpenAI's dialect so far; use /v1/chat/completions, /v1/embeddings or /v1/models"
)

// ClosedPath tells why a path of a known API is not served, if it is one.
func ClosedPath(path string) (why string, closed bool) {
	if bare, slash := strings.CutSuffix(path, "/"); slash {
		if _, ok := LookupEndpoint(bare); ok {
			return "it ends with a slash too many", true
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
