package fakellm

import (
	"cmp"
	"fmt"
	"net/http"
)

// openai is OpenAI itself, and at any path before /v1 a compatible service.
var openai = &kind{
	jsonType: "application/json", streamType: "text/event-stream; charset=utf-8", anyPrefix: true,
	headers:   []string{"Openai-Processing-Ms", "12", "Openai-Version", "2020-10-01", "X-Request-Id", "req_upstream"},
	roleDelta: `{"role":"assistant","content":"","refusal":null}`,

	chatChunk: func(x *exchange, delta, finish string) string {
		return openaiChunk(x, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+`}]`, `null`)
	},
	chatEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{openaiChunk(x, `[]`, openaiUsage(x.answer.usage))}
		}
		return []string{x.kind.chatChunk(x, `{}`, quote(x.answer.finish))}, usage
	},
	chatBody: func(x *exchange, message string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion","created":%s,"model":%s,"choices":[{"index":0,"message":`+
			`{"role":"assistant",%s,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":%s}],"usage":%s,`+
			`"service_tier":"default","system_fingerprint":null}`,
			x.id, created, quote(x.params.Model), message, quote(x.answer.finish), openaiUsage(x.answer.usage))
	},
	textChunk: func(x *exchange, text, finish string) string {
		return openaiText(x, `[{"text":`+quote(text)+`,"index":0,"logprobs":null,"finish_reason":`+finish+`}]`, "")
	},
	textEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{openaiText(x, `[]`, `,"usage":`+openaiUsage(x.answer.usage))}
		}
		return []string{x.kind.textChunk(x, "", quote(x.answer.finish))}, usage
	},
	textBody: func(x *exchange, text string) string {
		choices := `[{"text":` + quote(text) + `,"index":0,"logprobs":null,"finish_reason":` + quote(x.answer.finish) + `}]`
		return openaiText(x, choices, `,"usage":`+openaiUsage(x.answer.usage))
	},
	errorBody: func(e apiError) string {
		return fmt.Sprintf("{\n    \"error\": {\n        \"message\": %s,\n        \"type\": %s,\n        \"param\": %s,\n        \"code\": %s\n    }\n}\n",
			quote(e.message), quote(cmp.Or(e.typ, "invalid_request_error")), orNull(e.param), orNull(e.code))
	},
	streamError: func(x *exchange) [][]byte {
		const message = `"message":"The server had an error while processing your request. Sorry about that!"`
		if !x.isCompletion() {
			return events("event: error\n" + `data: {"type":"error","code":"server_error",` + message + `,"param":null,"sequence_number":9}`)
		}
		return [][]byte{data(`{"error":{` + message + `,"type":"server_error","param":null,"code":null}}`)}
	},
	endpoints: map[string]func(x *exchange) reply{
		chatPath:                     renderChat,
		"/v1/completions":            renderCompletion,
		embeddingsPath:               renderEmbeddings,
		"/v1/responses":              renderResponse,
		"/v1/responses/compact":      renderCompaction,
		"/v1/responses/input_tokens": renderInputTokens,
		"/v1/rerank":                 renderRerank(true),
		"/v1/moderations":            renderModeration,
		"/v1/audio/transcriptions":   renderTranscription,
		"/v1/audio/translations":     renderTranscription,
	},
	probes: map[string]func(x *exchange) reply{"GET /v1/models": modelList(openaiModel)},
	model:  openaiModel,
	errors: map[refusal]apiError{
		busy:         {status: http.StatusServiceUnavailable, message: "The engine is currently overloaded, please try again later.", typ: "server_error", code: "overloaded"},
		loading:      {status: http.StatusServiceUnavailable, message: "That model is currently not ready. Please retry your request.", typ: "server_error"},
		unknownModel: {status: http.StatusNotFound, message: "The model `{model}` does not exist or you do not have access to it.", code: "model_not_found"},
		tooLong: {
			status:  http.StatusBadRequest,
			message: "This model's maximum context length is 4096 tokens. However, your messages resulted in 20010 tokens. Please reduce the length of the messages.",
			param:   "messages", code: "context_length_exceeded",
		},
		outputTooLong: {
			status:  http.StatusBadRequest,
			message: "max_tokens is too large: 100000. This model supports at most 4096 completion tokens, whereas you provided 100000.",
			param:   "max_tokens", code: "invalid_value",
		},
		noTools:       {status: http.StatusBadRequest, message: "Unsupported parameter: 'tools' is not supported with this model.", param: "tools", code: "unsupported_parameter"},
		internalError: {status: http.StatusInternalServerError, message: "The server had an error while processing your request. Sorry about that!", typ: "server_error"},
		unauthorized: {
			status:  http.StatusUnauthorized,
			message: "Incorrect API key provided: sk-****. You can find your API key at https://platform.openai.com/account/api-keys.",
			code:    "invalid_api_key",
		},
		badJSON:      {status: http.StatusBadRequest, message: "We could not parse the JSON body of your request."},
		missingModel: {status: http.StatusBadRequest, message: "you must provide a model parameter"},
		missingInput: {status: http.StatusBadRequest, message: "Missing required parameter.", code: "missing_required_parameter"},
		wrongPath:    {status: http.StatusNotFound, message: "Invalid URL ({path})"},
		wrongMethod:  {status: http.StatusMethodNotAllowed, message: "Not allowed: {path}", code: "method_not_supported"},
	},
}

// openaiChunk is a chunk with its padding. If the request asks for usage, every chunk has the key.
func openaiChunk(x *exchange, choices, usage string) string {
	if x.includeUsage() {
		choices += `,"usage":` + usage
	}
	return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%s,"model":%s,"service_tier":"default",`+
		`"system_fingerprint":null,"choices":%s,"obfuscation":"yWnbrwBv"}`, x.id, created, quote(x.params.Model), choices)
}

func openaiText(x *exchange, choices, usage string) string {
	return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"choices":%s,"model":%s%s}`,
		x.id, created, choices, quote(x.params.Model), usage)
}

func openaiUsage(u usage) string {
	return fmt.Sprintf(`%s,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},"completion_tokens_details":`+
		`{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`, u.counts(), u.cached)
}

func openaiModel(x *exchange, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"system"}`
}
