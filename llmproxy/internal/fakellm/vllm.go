package fakellm

import (
	"fmt"
	"net/http"
	"strings"
)

// vllm is vLLM 0.2x as its source has it: nothing was captured. What matters most: a stream's status and headers leave before
// the request is scheduled, and a failure under way is an event and then [DONE].
var vllm = &kind{
	name: "vllm", json: "application/json", sse: "text/event-stream; charset=utf-8", early: true,
	header: []string{"Server", "uvicorn"},
	role:   `{"role":"assistant","content":""}`,

	chunk: func(c *call, delta, finish string) string {
		stop := ""
		if finish != "null" {
			stop = `,"stop_reason":null`
		}
		return vllmChunk(c, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+stop+`,"token_ids":null}]`, "null")
	},
	end: func(c *call) (finish, usage string) {
		if c.asksUsage() {
			usage = vllmChunk(c, `[]`, vllmUsage(c.answer.usage))
		}
		return c.kind.chunk(c, `{"content":""}`, quote(c.answer.finish)), usage
	},
	chat: func(c *call, text string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%032x","object":"chat.completion","created":%s,"model":%s,"choices":[{"index":0,"message":`+
			`{"role":"assistant","content":%s,"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],"reasoning":null},`+
			`"logprobs":null,"finish_reason":%s,"stop_reason":null,"token_ids":null}],"service_tier":null,"system_fingerprint":null,`+
			`"usage":%s,"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}`,
			c.id, created, quote(c.ask.Model), quote(text), quote(c.answer.finish), vllmUsage(c.answer.usage))
	},
	piece: func(c *call, text, finish string) string {
		return vllmPiece(c, `[{"index":0,"text":`+quote(text)+`,"logprobs":null,"finish_reason":`+finish+`,"stop_reason":null}]`, "")
	},
	pieceEnd: func(c *call) (finish, usage []string) {
		if c.asksUsage() {
			usage = []string{vllmPiece(c, `[]`, `,"usage":`+vllmUsage(c.answer.usage))}
		}
		return []string{c.kind.piece(c, "", quote(c.answer.finish))}, usage
	},
	completion: func(c *call, text string) string {
		choices := `[{"index":0,"text":` + quote(text) + `,"logprobs":null,"finish_reason":` + quote(c.answer.finish) + `,"stop_reason":null,"prompt_logprobs":null}]`
		return vllmPiece(c, choices, `,"usage":`+vllmUsage(c.answer.usage)+`,"kv_transfer_params":null`)
	},
	embedding: plainEmbedding,
	shape:     numbered,
	failure: func(c *call) [][]byte {
		p := problem{status: http.StatusInternalServerError, message: "EngineCore encountered an issue. See stack trace (above) for the root cause.", typ: "InternalServerError"}
		return [][]byte{data(numbered(p)), data("[DONE]")}
	},
	unfit: func(c *call) refusal {
		if c.lacks() {
			return missingInput
		}
		return accepted
	},
	probes: map[string]func(c *call) reply{
		"GET /v1/models": func(c *call) reply { return c.list(vllmModel) },
		"GET /health":    func(*call) reply { return reply{status: http.StatusOK} },
		"GET /ping":      func(*call) reply { return reply{status: http.StatusOK} },
		"GET /version":   func(c *call) reply { return c.json(`{"version":"0.24.0"}`) },
		"GET /load":      func(c *call) reply { return c.json(fmt.Sprintf(`{"server_load":%d}`, c.s.InFlight())) },
		"GET /metrics":   vllmMetrics,
		"POST /tokenize": func(c *call) reply {
			return c.json(`{"count":2,"max_model_len":4096,"tokens":[72,105],"token_strs":null}`)
		},
	},
	problems: map[refusal]problem{
		busy: {
			status: http.StatusServiceUnavailable, typ: "Service Unavailable",
			message: "The request queue is full. Please retry later.",
		},
		unknownModel: {status: http.StatusNotFound, message: "The model `{model}` does not exist.", typ: "NotFoundError", param: "model"},
		tooLong: {
			status: http.StatusBadRequest, typ: "BadRequestError", param: "input_tokens",
			message: "This model's maximum context length is 4096 tokens. However, you requested 16 output tokens and your prompt contains at least " +
				"20010 input tokens, for a total of at least 20026 tokens. Please reduce the length of the input prompt or the number of " +
				"requested output tokens. (parameter=input_tokens, value=20010)",
		},
		outputTooLong: {
			status: http.StatusBadRequest, typ: "BadRequestError", param: "max_tokens",
			message: "'max_tokens' or 'max_completion_tokens' is too large: 100000. This model's maximum context length is 4096 tokens and your " +
				"request has 12 input tokens (100000 > 4096 - 12).",
		},
		noTools: {
			status: http.StatusBadRequest, typ: "BadRequestError",
			message: `"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set`,
		},
		internalError: {status: http.StatusInternalServerError, message: "EngineCore encountered an issue. See stack trace (above) for the root cause.", typ: "InternalServerError"},
		unauthorized:  {status: http.StatusUnauthorized, body: `{"error":"Unauthorized"}`},
		badJSON:       {status: http.StatusBadRequest, message: "[{'type': 'json_invalid', 'loc': ('body', 0), 'msg': 'JSON decode error'}]", typ: "Bad Request"},
		missingInput:  {status: http.StatusBadRequest, message: "[{'type': 'missing', 'loc': ('body',), 'msg': 'Field required'}]", typ: "Bad Request"},
		missingModel:  {status: http.StatusNotFound, message: "The model `` does not exist.", typ: "NotFoundError", param: "model"},
		wrongPath:     {status: http.StatusNotFound, body: `{"detail":"Not Found"}`},
		wrongMethod:   {status: http.StatusMethodNotAllowed, body: `{"detail":"Method Not Allowed"}`},
	},
}

func vllmChunk(c *call, choices, usage string) string {
	if c.asksUsage() {
		choices += `,"usage":` + usage
	}
	return fmt.Sprintf(`{"id":"chatcmpl-%032x","object":"chat.completion.chunk","created":%s,"model":%s,"choices":%s}`,
		c.id, created, quote(c.ask.Model), choices)
}

func vllmPiece(c *call, choices, rest string) string {
	return fmt.Sprintf(`{"id":"cmpl-%032x","object":"text_completion","created":%s,"model":%s,"choices":%s%s}`,
		c.id, created, quote(c.ask.Model), choices, rest)
}

func vllmUsage(u usage) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`,
		u.input, u.input+u.output, u.output, u.cached)
}

func vllmModel(_ *call, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"vllm","root":` + quote(id) +
		`,"parent":null,"max_model_len":4096,"permission":[{"id":"modelperm-1","object":"model_permission","created":` + created +
		`,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,` +
		`"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}`
}

// vllmMetrics has a few gauges under their names of today and of 0.9, as 0.10 exported both (local-servers §1.1).
func vllmMetrics(c *call) reply {
	running, waiting := c.s.load()
	var b strings.Builder
	for _, g := range []struct {
		name  string
		value int
	}{
		{"num_requests_running", running},
		{"num_requests_waiting", waiting},
		{"kv_cache_usage_perc", 0},
		{"gpu_cache_usage_perc", 0},
	} {
		fmt.Fprintf(&b, "# HELP vllm:%[1]s A gauge.\n# TYPE vllm:%[1]s gauge\nvllm:%[1]s{engine=\"0\",model_name=%[2]q} %[3]d.0\n", g.name, c.s.names()[0], g.value)
	}
	return reply{status: http.StatusOK, ctype: "text/plain; version=0.0.4; charset=utf-8", body: []byte(b.String())}
}
