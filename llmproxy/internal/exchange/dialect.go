package exchange

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Dialect encodes what the gateway itself sends to a client, as opposed to what it relays from an upstream.
type Dialect interface {
	// AppendError appends the body of an error response.
	AppendError(b []byte, e *openai.Error) []byte
	// AppendErrorEvent appends the event that ends a stream with an error.
	AppendErrorEvent(b []byte, e *openai.Error) []byte
	// Ping returns the event that keeps a waiting client, and proxies on the way to it, from timing out.
	Ping() []byte
}

// dialectOf returns the dialect of an endpoint's clients. Requests that do not generate have no endpoint.
func dialectOf(e *openai.Endpoint) Dialect {
	if e == nil {
		return openAI(openai.Chunks)
	}
	return openAI(e.Framing)
}

// openAI is OpenAI's dialect with the framing of an endpoint's streams.
type openAI openai.Framing

func (openAI) AppendError(b []byte, e *openai.Error) []byte { return e.AppendJSON(b) }

func (d openAI) AppendErrorEvent(b []byte, e *openai.Error) []byte {
	if openai.Framing(d) == openai.Typed {
		return sse.AppendEvent(b, "error", e.AppendTypedJSON(nil))
	}
	return sse.AppendData(b, e.AppendJSON(nil))
}

var pingComment = []byte(": ping\n\n")

// Ping returns a comment, which every SDK skips.
func (openAI) Ping() []byte { return pingComment }
