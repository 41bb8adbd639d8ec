package exchange

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Dialect is how a client is told what comes from the gateway itself and not from an upstream.
type Dialect interface {
	// AppendError appends an error as the body of an answer.
	AppendError(b []byte, e *openai.Error) []byte
	// AppendErrorEvent appends an error as the last event of a stream.
	AppendErrorEvent(b []byte, e *openai.Error) []byte
	// Ping is the event that keeps a waiting client, and whatever stands between, from giving up.
	Ping() []byte
}

// dialectOf finds the dialect of an endpoint's clients; nil stands for an endpoint that does not generate.
func dialectOf(e *openai.Endpoint) Dialect {
	if e == nil {
		return openAI(openai.Chunks)
	}
	return openAI(e.Framing)
}

// openAI is OpenAI's dialect, with the framing of the endpoint's streams.
type openAI openai.Framing

func (openAI) AppendError(b []byte, e *openai.Error) []byte { return e.AppendJSON(b) }

func (d openAI) AppendErrorEvent(b []byte, e *openai.Error) []byte {
	if openai.Framing(d) == openai.Typed {
		return sse.AppendEvent(b, "error", e.AppendTypedJSON(nil))
	}
	return sse.AppendData(b, e.AppendJSON(nil))
}

var comment = []byte(": ping\n\n")

// Ping is a comment: every SDK skips it.
func (openAI) Ping() []byte { return comment }
