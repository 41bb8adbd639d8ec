package gateway

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// What the gateway itself tells clients, in the statuses and codes that OpenAI's SDKs branch on. An upstream's address
// never stands in a message; its name does.

const (
	invalidRequest = "invalid_request_error"
	serverError    = "server_error"
)

func badRequest(message string) *wire.Error {
	return &wire.Error{Status: http.StatusBadRequest, Type: invalidRequest, Code: "invalid_request", Message: message}
}

func notServed(path, why string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Type: invalidRequest, Code: "not_found",
		Message: fmt.Sprintf("%s is not served by this gateway: %s.", path, why)}
}

func wrongMethod(method, path, allowed string) *wire.Error {
	return &wire.Error{Status: http.StatusMethodNotAllowed, Type: invalidRequest, Code: "method_not_allowed",
		Message: fmt.Sprintf("%s is not possible at %s: use %s.", method, path, allowed)}
}

func unsupportedMedia(message string) *wire.Error {
	return &wire.Error{Status: http.StatusUnsupportedMediaType, Type: invalidRequest, Code: "unsupported_media_type", Message: message}
}

// tooLarge also ends the connection: net/http would read on, for the next request's sake, before it sends the refusal.
func (c *call) tooLarge(limit int64) *wire.Error {
	if c.r.ProtoMajor == 1 {
		c.w.Header()["Connection"] = []string{"close"}
	}
	whose := "max_body"
	if limit < c.g.MaxBody { // a handler before this one bounds it
		whose = "the max_size of request_body"
	}
	return &wire.Error{Status: http.StatusRequestEntityTooLarge, Type: invalidRequest, Code: "request_too_large",
		Message: fmt.Sprintf("The request's body is larger than %d bytes, the limit of this gateway. Send less, or raise %s.", limit, whose)}
}

func modelNotFound(model string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Type: invalidRequest, Param: "model", Code: "model_not_found",
		Message: fmt.Sprintf("The model %q is not served here. GET /v1/models lists the ones that are.", model)}
}

func modelMissing(path string) *wire.Error {
	return &wire.Error{Status: http.StatusBadRequest, Type: invalidRequest, Param: "model", Code: "invalid_request",
		Message: fmt.Sprintf("The request to %s names no model: set \"model\". GET /v1/models lists the ones that are served.", path)}
}

func noUpstream(message string) *wire.Error {
	return &wire.Error{Status: http.StatusServiceUnavailable, Type: serverError, Code: "no_upstream_available", Message: message}
}

func mustStay(model string) *wire.Error {
	return &wire.Error{Status: http.StatusForbidden, Type: invalidRequest, Param: "model", Code: "model_not_allowed",
		Message: fmt.Sprintf("This request must not leave the gateway's own machines, and the model %q has no upstream there.", model)}
}

func notCached() *wire.Error {
	return &wire.Error{Status: http.StatusGatewayTimeout, Type: invalidRequest, Code: "not_cached",
		Message: "No answer to this request is kept, and its Cache-Control says only-if-cached. Send it without that to have one generated."}
}

func upstreamError(message string) *wire.Error {
	return &wire.Error{Status: http.StatusBadGateway, Type: serverError, Code: "upstream_error", Message: message}
}

func upstreamTimeout(message string) *wire.Error {
	return &wire.Error{Status: http.StatusGatewayTimeout, Type: serverError, Code: "upstream_timeout", Message: message}
}

func shuttingDown() *wire.Error {
	return noUpstream("The gateway is shutting down before the answer is complete. Send the request again.")
}

func invalidKey(shown bool) *wire.Error {
	message := "This gateway needs an API key: send it as \"Authorization: Bearer KEY\", \"x-api-key: KEY\" or \"api-key: KEY\"."
	if shown {
		message = "The API key is not known here. Check it, or ask who runs this gateway for a new one."
	}
	return &wire.Error{Status: http.StatusUnauthorized, Type: invalidRequest, Code: "invalid_api_key", Message: message}
}

func expiredKey() *wire.Error {
	return &wire.Error{Status: http.StatusUnauthorized, Type: invalidRequest, Code: "invalid_api_key",
		Message: "The API key has expired. Ask who runs this gateway for a new one."}
}

func modelNotAllowed(model string) *wire.Error {
	return &wire.Error{Status: http.StatusForbidden, Type: invalidRequest, Param: "model", Code: "model_not_allowed",
		Message: fmt.Sprintf("This API key may not use the model %q. GET /v1/models lists the ones that it may.", model)}
}

func stateUnavailable() *wire.Error {
	return &wire.Error{Status: http.StatusServiceUnavailable, Type: serverError, Code: "state_unavailable",
		Message: "The gateway cannot reach the state that it shares with others, and does not answer without knowing its limits. Try again in a moment."}
}

// overLimit names the limit and says when to come back. Whose limit it is, the client need not know.
func overLimit(l *ratelimit.Limit, wait time.Duration) *wire.Error {
	e := &wire.Error{Status: http.StatusTooManyRequests, Type: l.Rule.Unit.String(), Code: "rate_limit_exceeded"}
	again := "Try again in " + string(appendReset(nil, wait)) + "."
	switch {
	case l.Rule.Unit == ratelimit.Concurrent:
		e.Type = ratelimit.Requests.String()
		e.Message = fmt.Sprintf("%d requests at the same time are possible, and as many are under way. Try again when one has ended.", l.Rule.Limit)
	case l.Rule.Unit == ratelimit.Spend && wait <= ratelimit.Soon: // clients take insufficient_quota for the end
		e.Type = ratelimit.Requests.String()
		e.Message = fmt.Sprintf("What is left of the budget of %s is reserved for requests that are under way. Try again when one has ended.", l.Rule)
	case l.Rule.Unit == ratelimit.Spend:
		if wait >= ratelimit.Never {
			again = "This request alone costs more: ask for a shorter answer with max_tokens."
		}
		e.Type, e.Code = "insufficient_quota", "insufficient_quota"
		e.Message = fmt.Sprintf("The budget of %s does not cover this request. %s", l.Rule, again)
	case wait >= ratelimit.Never:
		e.Message = fmt.Sprintf("The prompt alone is longer than the limit of %s tokens. Send a shorter one.", l.Rule)
	default:
		e.Message = fmt.Sprintf("The limit of %s %s is reached. %s", l.Rule, l.Rule.Unit, again)
	}
	return e
}
