package gateway

import (
	"fmt"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
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
	return &wire.Error{Status: http.StatusRequestEntityTooLarge, Type: invalidRequest, Code: "request_too_large",
		Message: fmt.Sprintf("The request's body is larger than %d bytes, the limit of this gateway. Send less, or raise max_body.", limit)}
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
