package dialect

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// About is what the translation of an answer has to know about the request.
type About struct {
	// Model is the name that the client asked for.
	Model string
	// Names has the client's names of the tools.
	Names *ToolNames
	// PromptTokens is an estimate for a stream, for as long as the upstream has not counted, or if it does not.
	PromptTokens int64
	// Started is when the request arrived.
	Started time.Time
}

// A Stream translates a stream from OpenAI's format, event by event.
type Stream interface {
	// Append appends what the data of one event becomes, which may be nothing.
	Append(b, data []byte) []byte
}

// An Answer translates one answer of chat to one of another endpoint: either a stream event by event, or all of it at once.
type Answer interface {
	Stream
	// Close appends what a stream lacks, once the upstream has closed it: some servers close it after the last chunk, without [DONE]. An
	// answer that the upstream has not finished gets no end.
	Close(b []byte) []byte
	// Whole appends what a whole answer becomes, and returns what that says besides its content, so that it is not read again. It
	// returns false if that is not an answer. Nothing else may be called after it.
	Whole(b, answer []byte) (translated []byte, said openai.Answer, ok bool)
}
