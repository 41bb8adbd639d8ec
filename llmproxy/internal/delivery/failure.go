package delivery

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A failure is an attempt that ended before anything was committed.
type failure struct {
	upstream.Finding
	upstream   string
	configured router.Target
	target     string // "upstream/model"
	status     int    // what the upstream answered, zero if it did not
	body       []byte // the error it answered with
	err        error
	// spill means that no attempt was made, because no slot was free in time; waited is for how long, zero if the queues were
	// full.
	spill  bool
	waited time.Duration
}

// tell puts a failure into the words and the status that SDKs expect. What the upstream said of the request itself reaches
// the client; what it said of our key or itself does not.
func (f *failure) tell() *openai.Error {
	name := "The upstream " + strconv.Quote(f.upstream)
	if f.spill {
		return f.tellQueueFull()
	}
	switch f.Verdict {
	case router.ClientError, router.Unsupported, router.Adjustable:
		return f.upstreamWords()
	case router.Unreachable:
		return exchange.NoUpstream(name + " cannot be reached, or is still loading its model. Try again in a moment.")
	case router.Overloaded:
		if f.status == http.StatusTooManyRequests {
			return &openai.Error{Status: f.status, Type: "rate_limit_error", Code: "rate_limit_exceeded", Message: name + " has reached its limit. Try again later."}
		}
		return exchange.NoUpstream(name + " is overloaded. Try again in a moment.")
	case router.Misconfigured:
		return f.tellMisconfigured(name)
	case router.Timeout:
		return upstreamTimeout(name + " did not begin to answer in time.")
	}
	return exchange.UpstreamError(name + " failed before it answered.")
}

func (f *failure) tellMisconfigured(name string) *openai.Error {
	switch {
	case f.status == http.StatusNotFound || f.status == http.StatusBadRequest:
		return &openai.Error{Status: http.StatusNotFound, Type: exchange.InvalidRequest, Param: "model", Code: "model_not_found",
			Message: name + " does not have the model that this gateway asks it for."}
	case f.status >= 300 && f.status < 400:
		return exchange.UpstreamError(name + " redirects to another address, which this gateway does not follow. The operator must check its address.")
	}
	return exchange.UpstreamError(name + " rejected this gateway's API key. The operator must check its configuration.")
}

// upstreamWords is the upstream's own error, in OpenAI's shape.
func (f *failure) upstreamWords() *openai.Error {
	e, _ := openai.ParseError(f.body)
	if e.Message == "" {
		e.Message = "The upstream " + strconv.Quote(f.upstream) + " refused the request with status " + strconv.Itoa(f.status) + "."
	}
	e.Type, e.Status = cmp.Or(e.Type, exchange.InvalidRequest), f.status
	if f.status < 400 || f.status >= 500 || f.status == http.StatusTooManyRequests {
		e.Status = http.StatusBadRequest // llama.cpp says 500 of an image it cannot see; SDKs would send it again
	}
	return &e
}

// tellQueueFull is what a client is told whose request found no slot.
func (f *failure) tellQueueFull() *openai.Error {
	message := "All slots are taken and the admission queue is full. Try again in a moment."
	if f.waited > 0 {
		message = "No slot became free within " + f.waited.Round(time.Millisecond).String() + ". Try again later."
	}
	return &openai.Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "queue_full", Message: message}
}

func upstreamTimeout(message string) *openai.Error {
	return &openai.Error{Status: http.StatusGatewayTimeout, Type: exchange.ServerError, Code: "upstream_timeout", Message: message}
}

func shuttingDown() *openai.Error {
	return exchange.NoUpstream("The gateway is shutting down before the answer is complete. Send the request again.")
}
