package upstream

import (
	"net/http"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Classify tells which verdict an error answer stands for. The servers agree neither on statuses nor on types, so that the
// words of the message decide where the status does not.
func Classify(status int, body []byte) router.Verdict {
	message, kind, code, param, _ := wire.ErrorOf(body)
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusPaymentRequired:
		return router.Config
	case status == http.StatusTooManyRequests, status == 529:
		return router.Busy
	case status == http.StatusServiceUnavailable:
		if strings.Contains(message, "Loading model") {
			return router.NotUp // llama.cpp, on every path, while it loads
		}
		return router.Busy
	case needsAnother(message, kind, code, param):
		return router.FitsElsewhere
	case modelMissing(status, message):
		return router.Config
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return router.FitsElsewhere // this server has no such endpoint
	case status == http.StatusRequestTimeout, status == 499, status >= 500:
		return router.Broken
	case status >= 300 && status < 400:
		return router.Config // an API does not redirect: the address is wrong
	}
	return router.Caller
}

// ClassifyEvent tells which verdict an error stands for that came inside a 200: as the first event of a stream or as the
// whole answer. Value is what stood at "error".
func ClassifyEvent(value []byte) router.Verdict {
	body := append(append([]byte(`{"error":`), value...), '}')
	message, kind, code, param, _ := wire.ErrorOf(body)
	if needsAnother(message, kind, code, param) {
		return router.FitsElsewhere
	}
	if len(code) == 3 && code[0] >= '4' && code[0] <= '5' {
		status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
		return Classify(status, body)
	}
	switch kind {
	case "overloaded_error", "rate_limit_error":
		return router.Busy
	case "invalid_request_error":
		return router.Caller
	}
	return router.Broken
}

// needsAnother recognises requests that this model or server cannot take but another one may: too long for its context
// (llama.cpp by type, OpenAI by code, vLLM by parameter, Ollama by words, its runner's JSON inside the message included),
// or with images, tools, sound it does not know. Some of them come as 500.
func needsAnother(message, kind, code, param string) bool {
	if kind == "exceed_context_size_error" || code == "context_length_exceeded" || param == "input_tokens" {
		return true
	}
	for _, words := range [...]string{
		"exceed_context_size_error", "maximum context length", "context length currently available", "exceeds the available context size",
		"is too large to process", "does not support", "is not supported - hint",
	} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}

// modelMissing recognises a model that the server does not have; llama.cpp's router mode says so with 400.
func modelMissing(status int, message string) bool {
	if status != http.StatusNotFound && status != http.StatusBadRequest {
		return false
	}
	return strings.Contains(message, "model") &&
		(strings.Contains(message, "not found") || strings.Contains(message, "does not exist") || strings.Contains(message, "is not loaded"))
}
