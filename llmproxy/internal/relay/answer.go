// Package relay brings an upstream's answer to the client. It decides when an answer is good enough to commit to: a stream at its
// first event with content, a JSON answer when it is complete, anything else at its first byte. Until then nothing reaches the
// client, so that another target can still answer. Afterwards it relays what arrives, event by event, and reports whether the
// answer was complete. It judges an answer by its bytes, and converts a good one that has another form than the request asks for.
//
// Only this package and exchange write to clients. It never retries, does not decide what an error means, and never re-encodes an
// event. It stands above openai and sse.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// Expect describes the answer that a request expects.
type Expect struct {
	Endpoint *openai.Endpoint
	// Events reads the events of a stream that the client gets in another API's format, as the upstream sent it. Such a stream is complete
	// only after the event that ends it. Nil if the stream is in OpenAI's format.
	Events openai.EventReader
	// Stream means that the request asked for a stream.
	Stream bool
	// HideUsage removes the usage event of a stream, which only the gateway asked for.
	HideUsage bool
	// NameReasoning adds the name by which OpenAI's clients know the reasoning of an answer, because the upstream has another one.
	NameReasoning bool
	// Choices is the number of choices that must have finished for a stream without [DONE] to be complete.
	Choices int
	// Whole means that the client gets a translation of the answer, so that one that is not a stream must be held until it is complete.
	Whole bool
	// Base64 converts embeddings from lists of numbers to base64, which the request asked for.
	Base64 bool
	// Count counts the text of every answer. Otherwise, it is counted only if the upstream may not report its tokens.
	Count bool
	// Memory is the account of what is held of answers; nil for no maximum.
	Memory *memory.Account
	// Progress is told about each read after the commit; nil if nobody wants to know.
	Progress Progress
}

// A Client receives an answer.
type Client interface {
	http.ResponseWriter
	// Flush sends what has been written.
	Flush() error
	// Commit ends the time during which another target could still answer. It must succeed before anything is sent. Begun reports
	// whether pings have already sent the header of a stream. If Commit fails, nothing is committed: ctx has ended, or the client's
	// stream has begun and the answer is not a stream.
	Commit(ctx context.Context, stream bool) (begun bool, err error)
	// ErrorEvent returns the event, or the events, that end one of the client's streams with an error. The state is that of a stream of
	// the Responses API.
	ErrorEvent(*openai.Error, openai.ResponseState) []byte
}

// Progress observes an answer while it arrives.
type Progress interface {
	// Read is called after each read that returned something. Contents is the number of events with content, or 1 for a part of an answer
	// that is no stream. It is zero if the read returned only comments, which merely show that the connection is alive.
	Read(contents int)
	// Ending is called when nothing more is needed of an answer whose body has not ended yet. If it does not end within the grace
	// period, reading should be made to fail.
	Ending(grace time.Duration)
	// Opened is called before the commit when the model opens a part of its answer that has no content yet.
	Opened()
}

const (
	// endGrace is how long a body may stay open after the end of the answer. If it ends within that time, its connection can be used
	// again.
	endGrace = 200 * time.Millisecond
	// finishGrace is how long the end of a stream may take after all choices have finished. Only the usage is still missing then.
	finishGrace = 10 * time.Second
)

// A Meter is what has been seen of an answer.
type Meter struct {
	Usage    tokens.Usage
	HasUsage bool
	// ServiceTier is the service tier that answered, if it has prices of its own; see openai.ParseServiceTier.
	ServiceTier string
	Timings     openai.Timings
	Events      int   // events sent to the client
	Bytes       int64 // bytes of the body sent to the client
	Text        jsonspan.TextCount
	Response    openai.ResponseState // of the Responses API
}

// read reads the usage in an event. Servers that report it in several events report what was used so far.
func (m *Meter) read(x *openai.Event) {
	if x.Tier != nil {
		m.ServiceTier = openai.ParseServiceTier(x.Tier)
	}
	if x.Timings != nil {
		m.Timings = openai.ParseTimings(x.Timings)
	}
	if x.Usage == nil {
		return
	}
	if usage, ok := openai.ParseUsage(x.Usage); ok {
		m.Usage.Update(usage)
		m.HasUsage = true
	}
}

var (
	// ErrIncomplete means that the answer ended too early. If a connection is closed cleanly before a finish_reason, the SDKs for Node,
	// Go and Python report success, so only the gateway can detect that.
	ErrIncomplete = errors.New("the answer ended before it was complete")
	// ErrMalformed means that the data of an event was neither [DONE] nor a JSON object. No SDK can read it.
	ErrMalformed = errors.New("an event of the upstream is not JSON")
	// ErrUnexpectedStream means that the upstream sent a stream where the client expects JSON, and that it cannot be joined into that.
	ErrUnexpectedStream = errors.New("the upstream answered with a stream, which cannot be converted into the answer that was asked for")
	// ErrNoStream means that the upstream did not send a stream and that its answer cannot be converted into one.
	ErrNoStream = errors.New("the upstream did not answer with a stream, and its answer cannot be converted into one")
)

// IsUnfit reports whether an answer failed only because of its form or its size. The upstream would send the same form again, and what
// it sent may have cost money.
func IsUnfit(err error) bool {
	return errors.Is(err, ErrUnexpectedStream) || errors.Is(err, ErrNoStream) || errors.Is(err, sse.ErrTooLong) || errors.Is(err, memory.ErrUsedUp)
}

// An EventError is an error that the upstream sent with status 200: as an event or as the whole answer.
type EventError struct {
	Value []byte
	// Sent means that the client got the event, which ended its stream.
	Sent bool
}

// Error does not quote the upstream, which may quote the client.
func (e *EventError) Error() string { return "the upstream sent an error inside its answer" }

// A ClientError is a failure to write to the client. It means that the client has left.
type ClientError struct{ Err error }

// Error implements error.
func (e *ClientError) Error() string { return "writing to the client: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ClientError) Unwrap() error { return e.Err }

// incomplete returns the error for an answer whose reading ended with err.
func incomplete(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrIncomplete
	}
	return fmt.Errorf("reading the answer: %w", err)
}

// An Answer is an upstream's answer that can be committed. Nothing of it has reached the client before Send.
type Answer interface {
	// Streams reports whether the client gets a stream of events, in which an error can be reported after the commit.
	Streams() bool
	// Send sends the answer to a client that has committed to it; begun is what Commit returned. If it fails, the client has got part of
	// the answer. It fails with a *ClientError if the client has left.
	Send(to Client, begun bool) error
	// Meter returns what has been seen so far.
	Meter() Meter
	// Close closes the upstream's response. An upstream that has not finished stops generating. It is called once, and the answer is not
	// used afterwards.
	Close()
}

const (
	// maxHeld bounds how much of an answer is kept in memory before it is committed.
	maxHeld = 1 << 20
	// maxConverted bounds an answer that is converted into a stream, which takes all of it. Images take several MB each.
	maxConverted = 32 << 20
)

// SendError ends a stream with an error event. State is that of the answer's Meter.
func SendError(to Client, e *openai.Error, state openai.ResponseState) {
	if _, err := to.Write(to.ErrorEvent(e, state)); err == nil {
		_ = to.Flush() // an error means that the client has left
	}
}

// relayedHeaders are the headers of an upstream that the client gets: those that describe the body. Its rate limits, cookies and
// server name stay private.
var relayedHeaders = []string{"Content-Type", "Content-Disposition", "Openai-Processing-Ms", "Openai-Version"}

func copyHeader(to, from http.Header) {
	for _, name := range relayedHeaders {
		if v := from[name]; v != nil {
			to[name] = v
		}
	}
}

var (
	noTransform = []string{"no-cache, no-transform"}
	noBuffering = []string{"no"}
	eventStream = []string{"text/event-stream"}
)

// StreamHeader sets the headers of a stream that the gateway itself generates.
func StreamHeader(h http.Header) {
	h["Content-Type"] = eventStream
	disableBuffering(h)
}

// disableBuffering sets the headers that every stream has. No-transform keeps Caddy's encode from holding back and compressing
// events (caddy#6293); X-Accel-Buffering is for an nginx in front.
func disableBuffering(h http.Header) {
	h["Cache-Control"] = noTransform
	h["X-Accel-Buffering"] = noBuffering
}
