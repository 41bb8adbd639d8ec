package relay

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Expect is what must be known of the request to judge its answer.
type Expect struct {
	Endpoint *openai.Endpoint
	// Stream tells that the request asked for a stream.
	Stream bool
	// HideUsage drops the event with the usage, which was asked for on the gateway's own account.
	HideUsage bool
	// Choices is the number of choices that must finish before a stream without [DONE] counts as complete.
	Choices int
	// Base64 turns lists of numbers in an answer with embeddings into base64, which the request asked for.
	Base64 bool
	// Count counts the text of every answer; without it, only of those whose upstream may not tell its tokens.
	Count bool
	// Progress hears of what comes once the answer was committed to; nil for nobody.
	Progress Progress
}

// A Client is who an answer is for.
type Client interface {
	http.ResponseWriter
	// Flush sends what was written.
	Flush() error
	// Commit ends the time in which the request could still go elsewhere. It must be called before anything is sent. Begun
	// reports whether the header of a stream was sent already, with a sign of life. An error means that nothing is committed:
	// ctx ended first, or the client's stream has begun and the answer is none.
	Commit(ctx context.Context, stream bool) (begun bool, err error)
	// ErrorEvent returns an error as the client's streams tell it.
	ErrorEvent(*openai.Error) []byte
}

// Progress hears how an answer comes along.
type Progress interface {
	// Read is called after each read that brought something. Content reports whether it brought more than comments, which say
	// only that the connection is alive.
	Read(content bool)
}

// A Meter is what was seen of an answer.
type Meter struct {
	Usage    openai.Usage
	HasUsage bool
	Events   int   // events sent to the client
	Bytes    int64 // bytes of the body sent to the client
	Text     jsonspan.TextCount
}

// The ways in which an answer fails to be one.
var (
	// ErrCut means that the answer ended before it was complete. If the connection is closed cleanly before a finish_reason, the
	// SDKs for Node, Go and Python report success, so that only the gateway can notice.
	ErrCut = errors.New("the answer ended before it was complete")
	// ErrMalformed says that the data of an event was neither [DONE] nor a JSON object, or not all of it. No SDK can read it.
	ErrMalformed = errors.New("an event of the upstream is not JSON")
	// ErrUnasked says that the upstream streams although nobody asked for it: an SDK that waits for JSON cannot read it.
	ErrUnasked = errors.New("the upstream answered a stream, which the request did not ask for")
	// ErrTooMuch says that an upstream sent more before its first content than is held.
	ErrTooMuch = errors.New("the upstream sent too much before its first content")
)

// An EventError is an error that the upstream sent inside a 200: as an event or as the whole answer.
type EventError struct{ Value []byte }

// Error does not quote the upstream, which may quote the client.
func (e *EventError) Error() string { return "the upstream sent an error inside its answer" }

// A ClientError is a failure to write to the client: it left.
type ClientError struct{ Err error }

// Error gives the cause.
func (e *ClientError) Error() string { return "writing to the client: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *ClientError) Unwrap() error { return e.Err }

// An Answer is an upstream's good answer, held until Send commits to it.
type Answer interface {
	// Streams reports whether the client gets a stream of events, which can tell an error after its first byte.
	Streams() bool
	// Send writes status, header and body to a client that the answer is committed to; begun is what Commit returned. An error
	// comes after the client got a part. A *ClientError means that the client left.
	Send(to Client, begun bool) error
	// Meter returns what was seen so far.
	Meter() Meter
	// Close lets go of the upstream, which stops generating if it has not finished.
	Close()
}

// End ends a stream that broke off with the error that the client is told.
func End(to Client, e *openai.Error) {
	if _, err := to.Write(to.ErrorEvent(e)); err == nil {
		_ = to.Flush() // the client is told, or it has left
	}
}

// Hold reads an answer of status 200 until it is worth committing to. The response is closed if that fails.
func Hold(res *http.Response, expect Expect) (Answer, error) {
	answer, err := hold(res, expect)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	return answer, nil
}

func hold(res *http.Response, expect Expect) (Answer, error) {
	contentType := res.Header.Get("Content-Type")
	media, err := mediaType(contentType)
	stream := media == "text/event-stream"
	switch {
	case stream && !expect.Stream && expect.Endpoint.Streams():
		return nil, ErrUnasked
	case stream:
		return holdStream(res, expect)
	case media == "application/json", strings.HasSuffix(media, "+json"), err != nil && contentType == "":
		if expect.Stream && expect.Endpoint.Streams() {
			return holdSplit(res, expect)
		}
		return holdWhole(res, expect)
	case expect.Endpoint.AnyAnswer:
		return holdBytes(res, expect)
	}
	return nil, fmt.Errorf("the upstream answered %q where JSON or events were expected", contentType)
}

// mediaType is the type without its parameters. What nearly every upstream says is not parsed.
func mediaType(contentType string) (string, error) {
	switch contentType {
	case "application/json", "application/json; charset=utf-8":
		return "application/json", nil
	case "text/event-stream", "text/event-stream; charset=utf-8":
		return "text/event-stream", nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	return media, err
}

// What of an upstream's header reaches the client: what says how to read the body. Its own limits, cookies and server name
// are nobody's business.
var passedHeaders = []string{"Content-Type", "Content-Disposition", "Openai-Processing-Ms", "Openai-Version"}

func copyHeader(to, from http.Header) {
	for _, name := range passedHeaders {
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

// StreamHeader sets the headers that every stream has. No-transform keeps Caddy's encode from holding back and compressing
// events (caddy#6293); the other one is for an nginx in front.
func StreamHeader(h http.Header) {
	h["Content-Type"] = eventStream
	streamHeader(h)
}

func streamHeader(h http.Header) {
	h["Cache-Control"] = noTransform
	h["X-Accel-Buffering"] = noBuffering
}
