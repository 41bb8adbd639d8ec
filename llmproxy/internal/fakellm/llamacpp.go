package fakellm

import (
	"fmt"
	"net/http"
)

// llamacpp is llama-server 0.5 with one model. What matters most: any model's name is answered, headers leave as soon as there
// is a slot, then come pings, and errors close the connection.
var llamacpp = &kind{
	name: "llamacpp", json: "application/json; charset=utf-8", sse: "text/event-stream", early: true, anyModel: true, noDate: true,
	header:   []string{"Server", "llama.cpp", "Access-Control-Allow-Origin", ""},
	onStream: []string{"X-Accel-Buffering", "no"},
	onError:  []string{"Connection", "close"},
	role:     `{"role":"assistant","content":null}`,

	chunk: func(c *call, delta, finish string) string {
		return llamaChunk(c, `{"finish_reason":`+finish+`,"index":0,"delta":`+delta+`}`, "")
	},
	// The timings are in the last chunk, whichever that is.
	end: func(c *call) (finish, usage string) {
		last := `{"finish_reason":` + quote(c.answer.finish) + `,"index":0,"delta":{}}`
		if !c.asksUsage() {
			return llamaChunk(c, last, llamaTimings), ""
		}
		return llamaChunk(c, last, ""), llamaChunk(c, "", `,"usage":`+llamaUsage(c.answer.usage)+llamaTimings)
	},
	chat: func(c *call, text string) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":%s,"index":0,"message":{"role":"assistant","content":%s}}],"created":%s,"model":%s,`+
			`"system_fingerprint":"b1-de3ff81","object":"chat.completion","usage":%s,"id":"chatcmpl-%032d"%s}`,
			quote(c.answer.finish), quote(text), created, quote(c.ask.Model), llamaUsage(c.answer.usage), c.id, llamaTimings)
	},
	piece: func(c *call, text, finish string) string { return llamaPiece(c, text, finish, "", "") },
	// A piece of nothing comes before the finish, which has the usage whether asked for or not.
	pieceEnd: func(c *call) (finish, usage []string) {
		counts := `"usage":` + llamaUsage(c.answer.usage) + `,`
		return []string{llamaPiece(c, "", "null", "", ""), llamaPiece(c, "", quote(c.answer.finish), counts, llamaTimings)}, nil
	},
	completion: func(c *call, text string) string {
		return llamaPiece(c, text, quote(c.answer.finish), `"usage":`+llamaUsage(c.answer.usage)+`,`, llamaTimings)
	},
	embedding: func(item, index string, base64 bool) string {
		if base64 {
			index += `,"object":"embedding","encoding_format":"base64"`
		} else {
			index += `,"object":"embedding"`
		}
		return `{"embedding":` + item + `,"index":` + index + `}`
	},
	shape: llamaShape,
	failure: func(c *call) [][]byte {
		return [][]byte{data(llamaShape(problem{status: http.StatusInternalServerError, message: "Compute error.", typ: "server_error"}))}
	},
	unfit: func(c *call) refusal {
		if c.lacks() {
			return missingInput
		}
		return accepted
	},
	loads: func(c *call, _ <-chan struct{}) (reply, bool) { return c.refuse(c.kind.problems[loading]), true },
	probes: map[string]func(c *call) reply{
		"GET /health":    func(c *call) reply { return c.json(`{"status":"ok"}`) },
		"GET /v1/health": func(c *call) reply { return c.json(`{"status":"ok"}`) },
		"GET /v1/models": llamaModels,
		"GET /props":     llamaProps,
		"GET /slots":     llamaSlots,
		"GET /metrics":   llamaMetrics,
		"POST /tokenize": func(c *call) reply { return c.json(`{"tokens":[72,105]}`) },
	},
	problems: map[refusal]problem{
		busy:    {status: http.StatusServiceUnavailable, message: "no slot available", typ: "unavailable_error"},
		loading: {status: http.StatusServiceUnavailable, body: `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`},
		// Router mode: with one model any name is answered.
		unknownModel: {status: http.StatusBadRequest, message: "model '{model}' not found"},
		tooLong: {status: http.StatusBadRequest, body: `{"error":{"code":400,"message":"request (20010 tokens) exceeds the available context size ` +
			`(2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":20010,"n_ctx":2048}}`},
		noTools:       {status: http.StatusInternalServerError, message: "tools param requires --jinja flag", typ: "server_error"},
		internalError: {status: http.StatusInternalServerError, message: "Compute error.", typ: "server_error"},
		unauthorized:  {status: http.StatusUnauthorized, body: `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`},
		badJSON: {
			status: http.StatusInternalServerError, typ: "server_error",
			message: "[json.exception.parse_error.101] parse error at line 1, column 29: syntax error while parsing value - unexpected end of input; " +
				"expected '[', '{', or a literal",
		},
		missingInput: {status: http.StatusBadRequest, message: "'messages' is required"},
		wrongPath:    llamaNoFile,
		wrongMethod:  llamaNoFile, // never a 405
	},
}

var llamaNoFile = problem{status: http.StatusNotFound, body: `{"error":{"message":"File Not Found","type":"not_found_error","code":404}}`}

func llamaShape(p problem) string {
	return fmt.Sprintf(`{"error":{"code":%d,"message":%s,"type":%s}}`, p.status, quote(p.message), quote(or(p.typ, "invalid_request_error")))
}

func llamaChunk(c *call, choice, rest string) string {
	return fmt.Sprintf(`{"choices":[%s],"created":%s,"id":"chatcmpl-%032d","model":%s,"system_fingerprint":"b1-de3ff81","object":"chat.completion.chunk"%s}`,
		choice, created, c.id, quote(c.ask.Model), rest)
}

func llamaPiece(c *call, text, finish, counts, rest string) string {
	return fmt.Sprintf(`{"choices":[{"text":%s,"index":0,"logprobs":null,"finish_reason":%s}],"created":%s,"model":%s,`+
		`"system_fingerprint":"b1-de3ff81","object":"text_completion",%s"id":"chatcmpl-%032d"%s}`,
		quote(text), finish, created, quote(c.ask.Model), counts, c.id, rest)
}

func llamaUsage(u usage) string {
	return fmt.Sprintf(`{"completion_tokens":%d,"prompt_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`,
		u.output, u.input, u.input+u.output, u.cached)
}

const llamaTimings = `,"timings":{"cache_n":29,"prompt_n":1,"prompt_ms":0.822,"prompt_per_token_ms":0.822,"prompt_per_second":1216.54501216545,` +
	`"predicted_n":7,"predicted_ms":1.607,"predicted_per_token_ms":0.2678333333333333,"predicted_per_second":3733.6652146857496}`
