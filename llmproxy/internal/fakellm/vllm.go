package fakellm

import (
	"fmt"
	"net/http"
	"strings"
)

// vllm is vLLM 0.32; what was not captured follows its source. The status and headers of a stream leave before the request is
// scheduled, and a failure during a stream is an event followed by [DONE].
var vllm = &kind{
	jsonType: "application/json", streamType: "text/event-stream; charset=utf-8", earlyHeaders: true,
	headers:       []string{"Server", "uvicorn", "Vary", "Origin"},
	modelOptional: true,
	roleDelta:     `{"role":"assistant","content":""}`,

	chatChunk: func(x *exchange, delta, finish string) string {
		stop, rest := `,"token_ids":null`, ""
		switch {
		case delta == x.kind.roleDelta:
			stop, rest = "", `,"prompt_token_ids":null,"prompt_text":null`
		case finish != "null":
			stop, rest = `,"stop_reason":null,"token_ids":null`, vllmLast(x)
		}
		return vllmChunk(x, `[{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+stop+`}]`, rest)
	},
	chatEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{vllmChunk(x, `[]`, `,"usage":`+vllmUsage(x.answer.usage, "")+vllmFingerprint)}
		}
		return []string{x.kind.chatChunk(x, `{}`, quote(x.answer.finish))}, usage
	},
	reasoning: "reasoning",
	chatBody: func(x *exchange, message string) string {
		unreasoned := ""
		if x.answer.thinking == nil {
			unreasoned = `,"reasoning":null`
		}
		return fmt.Sprintf(`{"id":"chatcmpl-%016x","object":"chat.completion","created":%s,"model":%s,"choices":[{"index":0,"message":`+
			`{"role":"assistant",%s,"refusal":null,"annotations":null,"audio":null,"function_call":null%s},`+
			`"logprobs":null,"finish_reason":%s,"stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null%s,`+
			`"usage":%s,"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}`,
			x.id, created, quote(x.params.Model), message, unreasoned, quote(x.answer.finish), vllmFingerprint, vllmUsage(x.answer.usage, vllmNoDetails))
	},
	textChunk: func(x *exchange, text, finish string) string {
		rest := ""
		if finish != "null" {
			rest = vllmLast(x)
		}
		return vllmText(x, `[{"index":0,"text":`+quote(text)+`,"logprobs":null,"finish_reason":`+finish+
			`,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]`, rest)
	},
	textEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{vllmText(x, `[]`, `,"usage":`+vllmUsage(x.answer.usage, "")+vllmFingerprint)}
		}
		return []string{x.kind.textChunk(x, "", quote(x.answer.finish))}, usage
	},
	textBody: func(x *exchange, text string) string {
		choices := `[{"index":0,"text":` + quote(text) + `,"logprobs":null,"finish_reason":` + quote(x.answer.finish) + `,"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}]`
		return vllmText(x, choices, `,"service_tier":null`+vllmFingerprint+`,"usage":`+vllmUsage(x.answer.usage, vllmNoDetails)+
			`,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null`)
	},
	errorBody: func(e apiError) string { // the code is the status as a number
		return fmt.Sprintf(`{"error":{"message":%s,"type":%s,"param":%s,"code":%d}}`, quote(e.message), quote(e.typ), orNull(e.param), e.status)
	},
	streamError: func(*exchange) [][]byte {
		// With spaces, so that clients that look for `{"error":{` miss it.
		return [][]byte{data(`{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", ` +
			`"type": "InternalServerError", "param": null, "code": 500}}`), data("[DONE]")}
	},
	endpoints: map[string]func(x *exchange) reply{
		chatPath:          renderChat,
		"/v1/completions": renderCompletion,
		embeddingsPath: func(x *exchange) reply {
			return x.json(fmt.Sprintf(`{"id":"embd-%032x","created":%s,%s}`, x.id, created, x.embeddings()))
		},
		"/v1/responses":            renderResponse,
		messagesPath:               vllmMessages.render,
		"/v1/rerank":               renderRerank(true),
		"/v1/audio/transcriptions": renderTranscription,
		"/v1/audio/translations":   renderTranscription,
	},
	probes: map[string]func(x *exchange) reply{
		"GET /v1/models":                 modelList(vllmModel),
		"GET /health":                    func(*exchange) reply { return reply{status: http.StatusOK} },
		"GET /ping":                      func(*exchange) reply { return reply{status: http.StatusOK} },
		"GET /version":                   constant(`{"version":"0.32.0"}`),
		"GET /load":                      func(x *exchange) reply { return x.json(fmt.Sprintf(`{"server_load":%d}`, x.server.InFlight())) },
		"GET /metrics":                   vllmMetrics,
		"POST /v1/messages/count_tokens": constant(`{"input_tokens":14,"context_management":{"original_input_tokens":14}}`),
		"POST /tokenize":                 constant(`{"count":2,"max_model_len":4096,"tokens":[72,105],"token_strs":null}`),
	},
	errors: map[refusal]apiError{
		loading: {reset: true},
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

// vllmLast is the part that only the last chunk of a stream has.
func vllmLast(x *exchange) string {
	if x.includeUsage() {
		return ""
	}
	return vllmFingerprint
}

func vllmChunk(x *exchange, choices, rest string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-%016x","object":"chat.completion.chunk","created":%s,"model":%s,"choices":%s%s}`,
		x.id, created, quote(x.params.Model), choices, rest)
}

func vllmText(x *exchange, choices, rest string) string {
	return fmt.Sprintf(`{"id":"cmpl-%016x","object":"text_completion","created":%s,"model":%s,"choices":%s%s}`,
		x.id, created, quote(x.params.Model), choices, rest)
}

// vllmUsage has details only for cached tokens, which vLLM counts only if it is told to.
func vllmUsage(u usage, noDetails string) string {
	if u.cached > 0 {
		noDetails = fmt.Sprintf(`,"prompt_tokens_details":{"cached_tokens":%d}`, u.cached)
	}
	return fmt.Sprintf(`{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d%s}`, u.input, u.input+u.output, u.output, noDetails)
}

// vllmModel describes a model or, with its file and without a context window, an adapter.
func vllmModel(x *exchange, id string) string {
	root, parent, window := id, "null", "4096"
	if of, ok := x.server.parents[id]; ok {
		root, parent, window = "/adapters/"+id, quote(of), "null"
	}
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"vllm","root":` + quote(root) +
		`,"parent":` + parent + `,"max_model_len":` + window + `,"permission":[{"id":"modelperm-1","object":"model_permission","created":` + created +
		`,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,` +
		`"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}`
}

// vllmMetrics has a few gauges. That of the KV cache has its current name and its name in vLLM 0.9 (0.10 exported both), and
// a counter of tokens that does not change while a stream stalls.
func vllmMetrics(x *exchange) reply {
	running, waiting := x.server.load()
	var b strings.Builder
	for _, g := range []struct {
		name  string
		value int
	}{
		{"num_requests_running", running},
		{"num_requests_waiting", waiting},
		{"num_preemptions_total", int(x.server.preemptions.Load())},
		{"kv_cache_usage_perc", 0},
		{"gpu_cache_usage_perc", 0},
	} {
		fmt.Fprintf(&b, "# HELP vllm:%[1]s A gauge.\n# TYPE vllm:%[1]s gauge\nvllm:%[1]s{engine=\"0\",model_name=%[2]q} %[3]d.0\n", g.name, x.server.names()[0], g.value)
	}
	fmt.Fprintf(&b, "# HELP vllm:generation_tokens_total A counter.\n# TYPE vllm:generation_tokens_total counter\n"+
		"vllm:generation_tokens_total{engine=\"0\",model_name=%q} %d.0\n", x.server.names()[0], x.server.generated.Load())
	const reasons = "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=%[1]q,reason=%[2]q} %[3]d.0\n"
	fmt.Fprintf(&b, reasons, x.server.names()[0], "capacity", waiting)
	fmt.Fprintf(&b, reasons, x.server.names()[0], "deferred", 0)
	if n := x.server.cacheTokens; n > 0 {
		fmt.Fprintf(&b, "vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",engine=\"0\",num_gpu_blocks=\"%d\",num_gpu_blocks_override=\"None\"} 1.0\n", n/16)
	}
	return reply{status: http.StatusOK, contentType: "text/plain; version=0.0.4; charset=utf-8", body: []byte(b.String())}
}
