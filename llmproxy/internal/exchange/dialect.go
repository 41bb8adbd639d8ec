package exchange

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Dialect encodes what the gateway itself sends to a client, as opposed to what it relays from an upstream.
type Dialect interface {
	// AppendError appends the body of an error response.
	AppendError(b []byte, e *openai.Error) []byte
	// AppendErrorEvent appends the event, or the events, that end a stream with an error. State is that of a stream of the Responses API.
	AppendErrorEvent(b []byte, e *openai.Error, state openai.ResponseState) []byte
	// Ping returns the event that keeps a waiting client, and proxies on the way to it, from timing out.
	Ping() []byte
}

// dialectOf returns the dialect of an endpoint's clients. Requests that do not generate have no endpoint.
func dialectOf(e *openai.Endpoint) Dialect { return openAI{e} }

// openAI is OpenAI's dialect at an endpoint, which may be nil.
type openAI struct{ endpoint *openai.Endpoint }

func (openAI) AppendError(b []byte, e *openai.Error) []byte { return e.AppendJSON(b) }

func (d openAI) AppendErrorEvent(b []byte, e *openai.Error, state openai.ResponseState) []byte {
	if d.endpoint == nil || d.endpoint.Framing != openai.Typed {
		return sse.AppendData(b, e.AppendJSON(nil))
	}
	b = sse.AppendEvent(b, "error", e.AppendTypedJSON(nil, state.Next))
	if d.endpoint.IsResponses() { // SDKs raise the former event, Codex understands only the latter
		state.Next++
		b = sse.AppendEvent(b, "response.failed", e.AppendFailedResponse(nil, state))
	}
	return b
}

var pingComment = []byte(": ping\n\n")

// Ping returns a comment, which every SDK skips.
func (openAI) Ping() []byte { return pingComment }
