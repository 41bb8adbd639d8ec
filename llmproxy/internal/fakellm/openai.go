package fakellm

import (
	"fmt"
	"net/http"
)

// openai is OpenAI itself, and with any path before /v1 a service of its shape.
var openai = &kind{
	name: "openai", json: "application/json", sse: "text/event-stream; charset=utf-8", prefix: true,
	header: []string{"Openai-Processing-Ms", "12", "Openai-Version", "2020-10-01", "X-Request-Id", "req_upstream"},
	role:   `{"role":"assistant","content":"","refusal":null}`,

	chunk: func(c *call, delta, finish string) string {
		return openaiChunk(c, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+`}]`, `null`)
	},
	end: func(c *call) (finish, usage string) {
		if c.asksUsage() {
			usage = openaiChunk(c, `[]`, openaiUsage(c.answer.usage))
		}
		return c.kind.chunk(c, `{}`, quote(c.answer.finish)), usage
	},
	chat: func(c *call, text string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion","created":%s,"model":%s,"choices":[{"index":0,"message":`+
			`{"role":"assistant","content":%s,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":%s}],"usage":%s,`+
			`"service_tier":"default","system_fingerprint":null}`,
			c.id, created, quote(c.ask.Model), quote(text), quote(c.answer.finish), openaiUsage(c.answer.usage))
	},
	piece: func(c *call, text, finish string) string {
		return openaiPiece(c, `[{"text":`+quote(text)+`,"index":0,"logprobs":null,"finish_reason":`+finish+`}]`, "")
	},
	pieceEnd: func(c *call) (finish, usage []string) {
		if c.asksUsage() {
			usage = []string{openaiPiece(c, `[]`, `,"usage":`+openaiUsage(c.answer.usage))}
		}
		return []string{c.kind.piece(c, "", quote(c.answer.finish))}, usage
	},
	completion: func(c *call, text string) string {
		choices := `[{"text":` + quote(text) + `,"index":0,"logprobs":null,"finish_reason":` + quote(c.answer.finish) + `}]`
		return openaiPiece(c, choices, `,"usage":`+openaiUsage(c.answer.usage))
	},
	embedding: plainEmbedding,
	shape: func(p problem) string {
		return fmt.Sprintf("{\n    \"error\": {\n        \"message\": %s,\n        \"type\": %s,\n        \"param\": %s,\n        \"code\": %s\n    }\n}\n",
			quote(p.message), quote(or(p.typ, "invalid_request_error")), orNull(p.param), orNull(p.code))
	},
	failure: func(c *call) [][]byte {
		const message = `"message":"The server had an error while processing your request. Sorry about that!"`
		if !c.chunked() {
			return events([]string{"event: error\n" + `data: {"type":"error","code":"server_error",` + message + `,"param":null,"sequence_number":9}`})
		}
		return [][]byte{data(`{"error":{` + message + `,"type":"server_error","param":null,"code":null}}`)}
	},
	unfit: func(c *call) refusal {
		if c.lacks() {
			return missingInput
		}
		return accepted
	},
	probes: map[string]func(c *call) reply{
		"GET /v1/models": func(c *call) reply { return c.list(openaiModel) },
	},
	oneModel: openaiModel,
	problems: map[refusal]problem{
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

// openaiChunk is a chunk with its random padding. Once usage is asked for, every chunk has the key.
func openaiChunk(c *call, choices, usage string) string {
	if c.asksUsage() {
		choices += `,"usage":` + usage
	}
	return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%s,"model":%s,"service_tier":"default",`+
		`"system_fingerprint":null,"choices":%s,"obfuscation":"yWnbrwBv"}`, c.id, created, quote(c.ask.Model), choices)
}

func openaiPiece(c *call, choices, usage string) string {
	return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"choices":%s,"model":%s%s}`,
		c.id, created, choices, quote(c.ask.Model), usage)
}

func openaiUsage(u usage) string {
	return fmt.Sprintf(`%s,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},"completion_tokens_details":`+
		`{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`, u.counts(), u.cached)
}

func openaiModel(c *call, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"system"}`
}
