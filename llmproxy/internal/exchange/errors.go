package exchange

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// Errors of the gateway itself have the statuses and codes that OpenAI's SDKs branch on. A message may contain the name of an
// upstream, but never its address.

// The types of errors.
const (
	InvalidRequest = "invalid_request_error"
	ServerError    = "server_error"
)

// BadRequest returns the error of an invalid request.
func BadRequest(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: InvalidRequest, Code: "invalid_request", Message: message}
}

// NotServed returns the error of an API path that the gateway does not serve.
func NotServed(path, why string) *openai.Error {
	return &openai.Error{Status: http.StatusNotFound, Type: InvalidRequest, Code: "not_found",
		Message: fmt.Sprintf("%s is not served by this gateway: %s.", shortened(path), why)}
}

// NoWebSocket returns the error of a request that wants to open a WebSocket. Codex then goes on over HTTP at once; after any other status
// it tries again several times.
func NoWebSocket(r *http.Request) *openai.Error {
	e := &openai.Error{Status: http.StatusUpgradeRequired, Type: InvalidRequest, Code: "websocket_not_supported",
		Message: "WebSockets are not supported here. Send the request over HTTP, and read its answer as a stream of events."}
	if r.ProtoMajor == 1 { // which requires these headers; HTTP/2 forbids them
		e.Header = http.Header{"Upgrade": {"HTTP/1.1"}, "Connection": {"Upgrade"}}
	}
	return e
}

// WrongMethod returns the error of a method that a path does not accept. Allowed lists those that it does.
func WrongMethod(r *http.Request, allowed string) *openai.Error {
	return &openai.Error{Status: http.StatusMethodNotAllowed, Type: InvalidRequest, Code: "method_not_allowed", Header: http.Header{"Allow": {allowed}},
		Message: fmt.Sprintf("The method %s is not allowed at %s; use %s.", r.Method, r.URL.Path, allowed)}
}

// ModelNotFound returns the error of an unknown model.
func ModelNotFound(model string) *openai.Error {
	return &openai.Error{Status: http.StatusNotFound, Type: InvalidRequest, Param: "model", Code: "model_not_found",
		Message: fmt.Sprintf("The model %q is not served here. GET /v1/models lists the models that are.", model)}
}

// NoUpstream returns the error of a request that no upstream can answer now.
func NoUpstream(message string) *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: ServerError, Code: "no_upstream_available", Message: message}
}

// UpstreamError returns the error of a request whose upstream failed.
func UpstreamError(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadGateway, Type: ServerError, Code: "upstream_error", Message: message}
}

// shortened returns the beginning of what a client sent.
func shortened(text string) string {
	const longest = 200
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}

// Overloaded returns the error of a request for which the gateway has no memory left.
func Overloaded() *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: ServerError, Code: "gateway_overloaded",
		Message: "The memory that this gateway has for requests is used up by other requests. Try again in a moment."}
}

// RetryAfter formats a wait for the Retry-After header, in seconds, rounded up.
func RetryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
