package delivery

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A failure describes an attempt that ended before the commit.
type failure struct {
	upstream.Finding
	upstream   string
	configured router.Target
	target     string // "upstream/model"
	status     int    // of the upstream's response; zero if there was none
	body       []byte // of an error response
	passes     bool   // the body is in the format of the client's own API
	err        error
	reason     string // what the upstream said or did, for the client; empty if that is unknown
	// spill means that no attempt was made because no slot became free in time. The request then waited for as long as waited, which
	// is zero if the queues were full.
	spill  bool
	waited time.Duration
	// cold means that the model is loading, and that the request goes to another pool meanwhile.
	cold bool
}

// apiError returns the error for the client, in a form that SDKs understand. The terminal of an agent shows nothing else, so it says what
// the upstream said: all of it about the request, and otherwise its status and a short reason without secrets, addresses and prompts.
func (f *failure) apiError() *openai.Error {
	name := "The upstream " + strconv.Quote(f.upstream)
	if f.spill {
		return f.queueFull()
	}
	if e := f.passed(); e != nil {
		return e
	}
	switch f.Verdict {
	case router.ClientError, router.Unsupported, router.Adjustable:
		if f.body == nil {
			return f.unfit(name)
		}
		return f.upstreamError()
	case router.Unreachable:
		if f.status != 0 {
			return exchange.NoUpstream(name + " is still loading its model" + because(f.reason) + ". Try again in a moment.")
		}
		return exchange.NoUpstream(name + " cannot be reached" + because(f.reason) + ". Try again in a moment.")
	case router.Overloaded:
		if f.status == http.StatusTooManyRequests {
			return &openai.Error{Status: f.status, Type: "rate_limit_error", Code: "rate_limit_exceeded", Message: name + " has reached its limit" + because(f.reason) + ". Try again later."}
		}
		return exchange.NoUpstream(name + " is overloaded" + because(f.reason) + ". Try again in a moment.")
	case router.Misconfigured:
		return f.misconfigured(name)
	case router.Timeout:
		return upstreamTimeout(name + " did not begin to answer in time.")
	}
	return exchange.UpstreamError(name + " failed before it answered" + because(f.reason) + ".")
}

// because returns a reason as the end of a sentence.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// unfit returns the error for an answer that may be good, but has a form that the client cannot read. SDKs must not retry: the upstream
// would be paid for the same again.
func (f *failure) unfit(name string) *openai.Error {
	message := name + " sent an event or an answer that is too long to be passed on."
	var encoding *upstream.EncodingError
	switch {
	case errors.Is(f.err, relay.ErrUnexpectedStream):
		message = name + " answered with a stream that cannot be converted into the answer that was asked for. Send the request with \"stream\": true."
	case errors.Is(f.err, relay.ErrNoStream), errors.Is(f.err, exchange.ErrStreamBegun):
		message = name + " did not answer with a stream, and its answer cannot be converted into one. Send the request without \"stream\"."
	case errors.Is(f.err, memory.ErrUsedUp):
		return exchange.Overloaded()
	case errors.As(f.err, &encoding):
		message = fmt.Sprintf("%s answered with Content-Encoding %.20q, which this gateway neither requests nor supports. The operator must turn that off.", name, encoding.Coding)
	}
	e := exchange.UpstreamError(message)
	e.Header = http.Header{"X-Should-Retry": {"false"}}
	return e
}

// passed returns an error of Anthropic's API for one of its clients, which gets it as it is, or nil. What the upstream says of the
// gateway's key stays private.
func (f *failure) passed() *openai.Error {
	if !f.passes || len(f.body) == 0 || f.status < 400 {
		return nil
	}
	switch f.Verdict {
	case router.ClientError, router.Unsupported, router.Adjustable, router.Overloaded:
		e := f.upstreamError()
		e.Status, e.Original = f.status, f.body
		return e
	}
	return nil
}

func (f *failure) misconfigured(name string) *openai.Error {
	switch {
	case f.status == http.StatusNotFound || f.status == http.StatusBadRequest:
		return &openai.Error{Status: http.StatusNotFound, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_found",
			Message: name + " does not have the model that this gateway asks it for" + because(f.reason) + "."}
	case f.status >= 300 && f.status < 400:
		return exchange.UpstreamError(name + " redirects to another address, which this gateway does not follow. The operator must check its address.")
	}
	if f.status == http.StatusUnauthorized {
		return exchange.UpstreamError(name + " rejected this gateway's API key" + because(f.reason) + ". The operator must check its configuration.")
	}
	return exchange.UpstreamError(name + " refused this gateway's request" + because(f.reason) + ". The operator must check its API key, its account and the configuration.")
}

// upstreamError returns the upstream's own error in OpenAI's format.
func (f *failure) upstreamError() *openai.Error {
	e, _ := openai.ParseError(f.body)
	if e.Message == "" {
		e.Message = "The upstream " + strconv.Quote(f.upstream) + " refused the request with status " + strconv.Itoa(f.status) + "."
	}
	e.Type, e.Status = cmp.Or(e.Type, exchange.InvalidRequest), f.status
	if f.status < 400 || f.status >= 500 || f.status == http.StatusTooManyRequests {
		e.Status = http.StatusBadRequest // llama.cpp answers 500 to an image that it does not support; SDKs would retry that
	}
	return &e
}

func (f *failure) queueFull() *openai.Error {
	message := "All slots are taken and the admission queue is full."
	if f.waited > 0 {
		message = "No slot became free within " + f.waited.Round(time.Millisecond).String() + "."
	}
	message += " Try again in " + exchange.RetryAfter(f.RetryAfter) + " s." // Codex reads the number in response.failed
	return &openai.Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "queue_full", Message: message}
}

func upstreamTimeout(message string) *openai.Error {
	return &openai.Error{Status: http.StatusGatewayTimeout, Type: exchange.ServerError, Code: "upstream_timeout", Message: message}
}

func shuttingDown() *openai.Error {
	return exchange.NoUpstream("The gateway is shutting down before the answer is complete. Send the request again.")
}
