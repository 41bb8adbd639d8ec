package exchange

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Dialect encodes what the gateway itself sends to a client, as opposed to what it relays from an upstream.
type Dialect interface {
	// AppendError appends the body of an error response.
	AppendError(b []byte, e *openai.Error) []byte
	// AppendErrorEvent appends the event, or the events, that end a stream with an error. State is that of a stream of the Responses API.
	AppendErrorEvent(b []byte, e *openai.Error, state openai.ResponseState) []byte
	// SetHeaders adds the dialect's own form of the headers of an answer.
	SetHeaders(h http.Header)
	// Ping returns the event that keeps a waiting client, and proxies on the way to it, from timing out; nil if there is no such event.
	Ping() []byte
}

// dialectOf returns the dialect of an API's clients. Requests that do not generate have no endpoint.
func dialectOf(api dialect.API, e *openai.Endpoint, id *string) Dialect {
	switch api {
	case dialect.Anthropic:
		return anthropic{id}
	case dialect.Simple:
		return simple{}
	case dialect.Ollama:
		return ollama{}
	}
	return openAI{e}
}

// anthropic is Anthropic's dialect. Its errors contain the request's ID.
type anthropic struct{ id *string }

func (d anthropic) AppendError(b []byte, e *openai.Error) []byte {
	return dialect.AppendError(b, e, *d.id)
}

func (d anthropic) AppendErrorEvent(b []byte, e *openai.Error, _ openai.ResponseState) []byte {
	return sse.AppendEvent(b, "error", dialect.AppendError(nil, e, *d.id))
}

// SetHeaders adds the quota headers under Anthropic's names. It says when a quota is full again as a time, not as a duration.
func (anthropic) SetHeaders(h http.Header) {
	for _, unit := range [...]string{"Requests", "Tokens"} {
		for _, kind := range [...]string{"Limit", "Remaining"} {
			if v := h["X-Ratelimit-"+kind+"-"+unit]; v != nil {
				h["Anthropic-Ratelimit-"+unit+"-"+kind] = v
			}
		}
		v := h["X-Ratelimit-Reset-"+unit]
		if len(v) == 0 {
			continue
		}
		if reset, err := time.ParseDuration(v[0]); err == nil {
			h["Anthropic-Ratelimit-"+unit+"-Reset"] = []string{time.Now().Add(reset).UTC().Format(time.RFC3339)}
		}
	}
}

// Ping returns an event, as Anthropic sends them.
func (anthropic) Ping() []byte { return pingEvent }

var pingEvent = []byte("event: ping\ndata: {\"type\": \"ping\"}\n\n")

// ollama is Ollama's dialect.
type ollama struct{}

func (ollama) AppendError(b []byte, e *openai.Error) []byte { return dialect.AppendOllamaError(b, e) }

func (ollama) AppendErrorEvent(b []byte, e *openai.Error, _ openai.ResponseState) []byte {
	return append(dialect.AppendOllamaError(b, e), '\n')
}

var lines = []string{"application/x-ndjson"}

// SetHeaders labels a stream as one of lines.
func (ollama) SetHeaders(h http.Header) {
	if strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
		h["Content-Type"] = lines
	}
}

// Ping returns nil: clients read every line as a part of the answer, and an empty one is an error to them.
func (ollama) Ping() []byte { return nil }

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

// SetHeaders does nothing: the headers are OpenAI's.
func (openAI) SetHeaders(http.Header) {}

var pingComment = []byte(": ping\n\n")

// Ping returns a comment, which every SDK skips.
func (openAI) Ping() []byte { return pingComment }

// simple is the dialect of the simple chat.
type simple struct{}

func (simple) AppendError(b []byte, e *openai.Error) []byte { return dialect.AppendSimpleError(b, e) }

func (simple) AppendErrorEvent(b []byte, e *openai.Error, _ openai.ResponseState) []byte {
	return dialect.AppendSimpleErrorEvent(b, e)
}

// SetHeaders does nothing: the headers are OpenAI's.
func (simple) SetHeaders(http.Header) {}

// Ping returns a comment.
func (simple) Ping() []byte { return pingComment }
