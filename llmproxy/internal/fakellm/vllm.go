package fakellm

import (
	"fmt"
	"net/http"
	"strings"
)

// vllm is vLLM 0.32, what was not captured as its source has it. What matters most: a stream's status and headers leave
// before the request is scheduled, and a failure under way is an event and then [DONE].
var vllm = &kind{
	name: "vllm", json: "application/json", sse: "text/event-stream; charset=utf-8", early: true,
	header:     []string{"Server", "uvicorn", "Vary", "Origin"},
	firstModel: true,
	role:       `{"role":"assistant","content":""}`,

	chunk: func(c *call, delta, finish string) string {
		stop, rest := `,"token_ids":null`, ""
		switch {
		case delta == c.kind.role:
			stop, rest = "", `,"prompt_token_ids":null,"prompt_text":null`
		case finish != "null":
			stop, rest = `,"stop_reason":null,"token_ids":null`, vllmLast(c)
		}
		return vllmChunk(c, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+stop+`}]`, rest)
	},
	end: func(c *call) (finish, usage string) {
		if c.asksUsage() {
			usage = vllmChunk(c, `[]`, `,"usage":`+vllmUsage(c.answer.usage, "")+vllmFingerprint)
		}
		return c.kind.chunk(c, `{}`, quote(c.answer.finish)), usage
	},
	chat: func(c *call, text string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%016x","object":"chat.completion","created":%s,"model":%s,"choices":[{"index":0,"message":`+
			`{"role":"assistant","content":%s,"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},`+
			`"logprobs":null,"finish_reason":%s,"stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null%s,`+
			`"usage":%s,"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}`,
			c.id, created, quote(c.ask.Model), quote(text), quote(c.answer.finish), vllmFingerprint, vllmUsage(c.answer.usage, vllmNoDetails))
	},
	piece: func(c *call, text, finish string) string {
		rest := ""
		if finish != "null" {
			rest = vllmLast(c)
		}
		return vllmPiece(c, `[{"index":0,"text":`+quote(text)+`,"logprobs":null,"finish_reason":`+finish+
			`,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]`, rest)
	},
	pieceEnd: func(c *call) (finish, usage []string) {
		if c.asksUsage() {
			usage = []string{vllmPiece(c, `[]`, `,"usage":`+vllmUsage(c.answer.usage, "")+vllmFingerprint)}
		}
		return []string{c.kind.piece(c, "", quote(c.answer.finish))}, usage
	},
	completion: func(c *call, text string) string {
		choices := `[{"index":0,"text":` + quote(text) + `,"logprobs":null,"finish_reason":` + quote(c.answer.finish) + `,"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}]`
		return vllmPiece(c, choices, `,"service_tier":null`+vllmFingerprint+`,"usage":`+vllmUsage(c.answer.usage, vllmNoDetails)+
			`,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null`)
	},
	embedding: plainEmbedding,
	shape:     numbered,
	failure: func(*call) [][]byte {
		// With spaces, by which some clients do not know it for an error.
		return [][]byte{data(`{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", ` +
			`"type": "InternalServerError", "param": null, "code": 500}}`), data("[DONE]")}
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
		"GET /version":   func(c *call) reply { return c.json(`{"version":"0.32.0"}`) },
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
		unknownModel: {status: http.StatusNotFound, message: "The model `{model}` does not exist. Valid aliases: tiny.", typ: "NotFoundError", param: "model"},
		tooLong: {
			status: http.StatusBadRequest, typ: "BadRequestError", param: "input_tokens",
			message: "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, which exceeds this " +
				"limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=4097)",
		},
		outputTooLong: {
			status: http.StatusBadRequest, typ: "BadRequestError", param: "max_tokens",
			message: "max_tokens=100000 cannot be greater than max_model_len=4096. Please request fewer output tokens. (parameter=max_tokens, value=100000)",
		},
		noTools: {
			status: http.StatusBadRequest, typ: "BadRequestError",
			message: `"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set`,
		},
		internalError: {status: http.StatusInternalServerError, message: "EngineCore encountered an issue. See stack trace (above) for the root cause.", typ: "InternalServerError"},
		unauthorized:  {status: http.StatusUnauthorized, body: `{"error":"Unauthorized"}`},
		badJSON: {
			status: http.StatusBadRequest, typ: "Bad Request", param: "body.0",
			message: "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.0', 'msg': 'JSON decode error', 'input': '<dict of 0 items>'}",
		},
		missingInput: {
			status: http.StatusBadRequest, typ: "Bad Request", param: "body.messages",
			message: "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}",
		},
		wrongPath:   {status: http.StatusNotFound, body: `{"detail":"Not Found"}`},
		wrongMethod: {status: http.StatusMethodNotAllowed, body: `{"detail":"Method Not Allowed"}`},
	},
}

const (
	vllmFingerprint = `,"system_fingerprint":"vllm-0.32.0-49b64e0b"`
	vllmNoDetails   = `,"prompt_tokens_details":null,"completion_tokens_details":null`
)

// vllmLast is what only the last chunk of a stream has.
func vllmLast(c *call) string {
	if c.asksUsage() {
		return ""
	}
	return vllmFingerprint
}

func vllmChunk(c *call, choices, rest string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-%016x","object":"chat.completion.chunk","created":%s,"model":%s,"choices":%s%s}`,
		c.id, created, quote(c.ask.Model), choices, rest)
}

func vllmPiece(c *call, choices, rest string) string {
	return fmt.Sprintf(`{"id":"cmpl-%016x","object":"text_completion","created":%s,"model":%s,"choices":%s%s}`,
		c.id, created, quote(c.ask.Model), choices, rest)
}

// vllmUsage has details only where vLLM was told to count what its cache knew.
func vllmUsage(u usage, noDetails string) string {
	if u.cached > 0 {
		noDetails = fmt.Sprintf(`,"prompt_tokens_details":{"cached_tokens":%d}`, u.cached)
	}
	return fmt.Sprintf(`{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%s}`, u.input, u.input+u.output, u.output, noDetails)
}

func vllmModel(_ *call, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"vllm","root":` + quote(id) +
		`,"parent":null,"max_model_len":4096,"permission":[{"id":"modelperm-1","object":"model_permission","created":` + created +
		`,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,` +
		`"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}`
}

// vllmMetrics has a few gauges under their names of today and of 0.9, as 0.10 exported both (local-servers §1.1), and a counter that
// stands still while a stream stalls.
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
	fmt.Fprintf(&b, "# HELP vllm:generation_tokens_total A counter.\n# TYPE vllm:generation_tokens_total counter\n"+
		"vllm:generation_tokens_total{engine=\"0\",model_name=%q} %d.0\n", c.s.names()[0], c.s.decoded.Load())
	return reply{status: http.StatusOK, ctype: "text/plain; version=0.0.4; charset=utf-8", body: []byte(b.String())}
}
