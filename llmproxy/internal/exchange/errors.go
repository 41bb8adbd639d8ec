package exchange

import (
	"fmt"
	"net/http"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// What the gateway itself tells clients has the statuses and codes that OpenAI's SDKs branch on. An upstream's address never
// stands in a message; its name does.

// The types of errors.
const (
	InvalidRequest = "invalid_request_error"
	ServerError    = "server_error"
)

// BadRequest is the error of a request that is wrong in itself.
func BadRequest(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadRequest, Type: InvalidRequest, Code: "invalid_request", Message: message}
}

// NotServed is the error of an API path that this gateway does not serve.
func NotServed(path, why string) *openai.Error {
	return &openai.Error{Status: http.StatusNotFound, Type: InvalidRequest, Code: "not_found",
		Message: fmt.Sprintf("%s is not served by this gateway: %s.", path, why)}
}

// WrongMethod is the error of a method that a path does not take; allowed are those that it does.
func WrongMethod(r *http.Request, allowed string) *openai.Error {
	return &openai.Error{Status: http.StatusMethodNotAllowed, Type: InvalidRequest, Code: "method_not_allowed", Header: http.Header{"Allow": {allowed}},
		Message: fmt.Sprintf("The method %s is not allowed at %s; use %s.", r.Method, r.URL.Path, allowed)}
}

// ModelNotFound is the error of a model that nobody serves here.
func ModelNotFound(model string) *openai.Error {
	return &openai.Error{Status: http.StatusNotFound, Type: InvalidRequest, Param: "model", Code: "model_not_found",
		Message: fmt.Sprintf("The model %q is not served here. GET /v1/models lists the models that are.", model)}
}

// NoUpstream is the error of a request that no upstream can answer now.
func NoUpstream(message string) *openai.Error {
	return &openai.Error{Status: http.StatusServiceUnavailable, Type: ServerError, Code: "no_upstream_available", Message: message}
}

// UpstreamError is the error of an upstream that failed.
func UpstreamError(message string) *openai.Error {
	return &openai.Error{Status: http.StatusBadGateway, Type: ServerError, Code: "upstream_error", Message: message}
}
