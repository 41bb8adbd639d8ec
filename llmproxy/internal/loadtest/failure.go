package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	goopenai "github.com/sashabaranov/go-openai"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/sse"
)

// A Class is how a request failed.
type Class string

// The classes of failures.
const (
	// Refused is an answer with a status that is not a success.
	Refused Class = "status"
	// Unreachable is a server to which no connection could be made.
	Unreachable Class = "connection"
	// Broken is an answer that ended early, or reported an error after it had begun.
	Broken Class = "broken answer"
	// Malformed is an answer that is not in the dialect.
	Malformed Class = "malformed answer"
	// TimedOut is a request that took too long.
	TimedOut Class = "timeout"
	// Local is a limit of this machine, which says nothing about the server.
	Local Class = "this machine"
)

// A Failure is why a request has no answer.
type Failure struct {
	Class  Class
	Status int // of HTTP, for Refused
	// Reason is the error's code or type, as the server names it, or empty.
	Reason string
	// Message is the text of the error, shortened.
	Message string
}

// Error returns the class, the status and the message.
func (f *Failure) Error() string {
	return f.Name() + ": " + f.Message
}

// Name returns the class, or the status and the code of the error.
func (f *Failure) Name() string {
	if f.Class != Refused {
		return string(f.Class)
	}
	return strings.TrimSpace(fmt.Sprintf("status %d %s", f.Status, f.Reason))
}

var errMalformed = errors.New("malformed answer")

// A statusError is an answer with a status that is not a success.
type statusError struct {
	status int
	body   []byte
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// A streamError is an error that a stream reports.
type streamError struct{ message string }

func (e *streamError) Error() string { return e.message }

// newStreamError copies the raw value of an error, which is valid only until the next event.
func newStreamError(raw []byte) *streamError {
	if parsed, ok := openai.ParseError([]byte(`{"error":` + string(raw) + `}`)); ok && parsed.Message != "" {
		return &streamError{parsed.Message}
	}
	return &streamError{string(raw)}
}

// classify finds out what an error means. It takes the key out of messages, which may repeat it.
func classify(err error, key string) *Failure {
	f := &Failure{Message: err.Error()}
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it says nothing but the address
		f.Message = wrapped.Err.Error()
	}
	var (
		status    *statusError
		api       *goopenai.APIError
		request   *goopenai.RequestError
		inStream  *streamError
		operation *net.OpError
	)
	switch {
	case errors.As(err, &status):
		f.refused(status.status, status.body)
	case errors.As(err, &request):
		f.refused(request.HTTPStatusCode, request.Body)
	case errors.As(err, &api) && api.HTTPStatusCode > 0:
		f.Class, f.Status, f.Message, f.Reason = Refused, api.HTTPStatusCode, api.Message, api.Type
		if reason, ok := api.Code.(string); ok && reason != "" {
			f.Reason = reason
		}
	case errors.As(err, &api), errors.As(err, &inStream), errors.Is(err, errIncomplete), errors.Is(err, io.ErrUnexpectedEOF):
		f.Class = Broken
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		f.Class = TimedOut
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.EADDRNOTAVAIL):
		f.Class = Local
		f.Message += "; lower --concurrency, or raise the limit (ulimit -n)"
	case errors.Is(err, errMalformed), errors.Is(err, errEmpty), errors.Is(err, sse.ErrTooLong), errors.Is(err, errTooLarge):
		f.Class = Malformed
	case errors.As(err, &operation) && operation.Op == "read":
		f.Class = Broken
	case isJSONError(err):
		f.Class = Malformed
	default:
		f.Class = Unreachable
	}
	f.Message, f.Reason = printable(f.Message, key, 300), printable(f.Reason, key, 60)
	return f
}

// refused reads the error in the body of an answer, in any dialect.
func (f *Failure) refused(status int, body []byte) {
	f.Class, f.Status, f.Message = Refused, status, string(body)
	if parsed, ok := openai.ParseError(body); ok {
		f.Message, f.Reason = parsed.Message, parsed.Code
		if f.Reason == "" {
			f.Reason = parsed.Type
		}
	}
}

// Printable returns a text that a server made up in one line, as a terminal can show it.
func Printable(text string) string { return printable(text, "", 300) }

// printable returns a text in one line, without a key and shortened, as a terminal can show it.
func printable(text, key string, size int) string {
	if key != "" {
		text = strings.ReplaceAll(text, key, "[key]")
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > size {
		text = string(runes[:size]) + "…"
	}
	return text
}
