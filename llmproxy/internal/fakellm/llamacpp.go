package fakellm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// llamacpp is llama-server 0.5. With one model, it answers any model name. The headers leave as soon as there is a slot and are
// followed by pings, and an error closes the connection.
var llamacpp = &kind{
	jsonType: "application/json; charset=utf-8", streamType: "text/event-stream", earlyHeaders: true, ignoresModel: true, noDate: true,
	headers:       []string{"Server", "llama.cpp", "Access-Control-Allow-Origin", ""},
	streamHeaders: []string{"X-Accel-Buffering", "no"},
	errorHeaders:  []string{"Connection", "close"},
	roleDelta:     `{"role":"assistant","content":null}`,

	chatChunk: func(x *exchange, delta, finish string) string {
		return llamaChunk(x, `{"finish_reason":`+finish+`,"index":0,"delta":`+delta+`}`, "")
	},
	// The timings are in the last chunk, whichever that is.
	chatEnd: func(x *exchange) (finish, usage []string) {
		last := `{"finish_reason":` + quote(x.answer.finish) + `,"index":0,"delta":{}}`
		if !x.includeUsage() {
			return []string{llamaChunk(x, last, llamaTimings)}, nil
		}
		return []string{llamaChunk(x, last, "")}, []string{llamaChunk(x, "", `,"usage":`+llamaUsage(x.answer.usage)+llamaTimings)}
	},
	chatBody: func(x *exchange, message string) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":%s,"index":0,"message":{"role":"assistant",%s}}],"created":%s,"model":%s,`+
			`"system_fingerprint":"b1-de3ff81","object":"chat.completion","usage":%s,"id":"chatcmpl-%032d"%s}`,
			quote(x.answer.finish), message, created, quote(x.params.Model), llamaUsage(x.answer.usage), x.id, llamaTimings)
	},
	textChunk: func(x *exchange, text, finish string) string { return llamaText(x, text, finish, "", "") },
	// An empty chunk comes before the finish, which always has the usage.
	textEnd: func(x *exchange) (finish, usage []string) {
		counts := `"usage":` + llamaUsage(x.answer.usage) + `,`
		return []string{llamaText(x, "", "null", "", ""), llamaText(x, "", quote(x.answer.finish), counts, llamaTimings)}, nil
	},
	textBody: func(x *exchange, text string) string {
		return llamaText(x, text, quote(x.answer.finish), `"usage":`+llamaUsage(x.answer.usage)+`,`, llamaTimings)
	},
	embedding: func(vector string, index int, base64 bool) string {
		format := ""
		if base64 {
			format = `,"encoding_format":"base64"`
		}
		return fmt.Sprintf(`{"embedding":%s,"index":%d,"object":"embedding"%s}`, vector, index, format)
	},
	fixedDimensions: true,
	responses:       responsesStyle{minimal: true, timings: llamaTimings},
	errorBody:       llamaError,
	streamError: func(x *exchange) [][]byte {
		return [][]byte{data(llamaError(apiError{status: http.StatusInternalServerError, message: "Compute error.", typ: "server_error"}))}
	},
	intercept: func(x *exchange, loads <-chan struct{}) (reply, bool) {
		if loads == nil || x.server.memory != nil {
			return reply{}, false
		}
		return x.refuse(loading), true
	},
	endpoints: map[string]func(x *exchange) reply{
		chatPath:          renderChat,
		"/v1/completions": renderCompletion,
		embeddingsPath:    renderEmbeddings,
		"/v1/responses":   renderResponse,
		messagesPath:      llamaMessages.render,
		"/v1/rerank":      renderRerank(false),
	},
	probes: map[string]func(x *exchange) reply{
		// Only version 0.5 has it.
		inputTokensPath:                  constant(`{"input_tokens":12,"object":"response.input_tokens"}`),
		"GET /health":                    constant(`{"status":"ok"}`),
		"GET /v1/health":                 constant(`{"status":"ok"}`),
		"GET /v1/models":                 llamaModels,
		"GET /models":                    llamaModels,
		"POST /models/load":              llamaLoad,
		"POST /models/unload":            llamaLoad,
		"GET /props":                     llamaProps,
		"GET /slots":                     llamaSlots,
		"GET /metrics":                   llamaMetrics,
		"POST /v1/messages/count_tokens": constant(`{"input_tokens":14}`),
		"POST /apply-template":           constant(`{"prompt":"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"}`),
		"POST /tokenize":                 constant(`{"tokens":[72,105]}`),
	},
	errors: map[refusal]apiError{
		busy:    {status: http.StatusServiceUnavailable, message: "no slot available", typ: "unavailable_error"},
		loading: {status: http.StatusServiceUnavailable, body: `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`},
		// Only in router mode: with one model, any name is answered.
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
		missingModel: {status: http.StatusBadRequest, message: "model name is missing from the request"}, // only in router mode
		wrongPath:    llamaNotFound,
		wrongMethod:  llamaNotFound, // never a 405
	},
}

const inputTokensPath = "POST /v1/chat/completions/input_tokens"

var llamaNotFound = apiError{status: http.StatusNotFound, body: `{"error":{"message":"File Not Found","type":"not_found_error","code":404}}`}

func llamaError(e apiError) string {
	return fmt.Sprintf(`{"error":{"code":%d,"message":%s,"type":%s}}`, e.status, quote(e.message), quote(cmp.Or(e.typ, "invalid_request_error")))
}

func llamaChunk(x *exchange, choice, rest string) string {
	return fmt.Sprintf(`{"choices":[%s],"created":%s,"id":"chatcmpl-%032d","model":%s,"system_fingerprint":"b1-de3ff81","object":"chat.completion.chunk"%s}`,
		choice, created, x.id, quote(x.params.Model), rest)
}

func llamaText(x *exchange, text, finish, counts, rest string) string {
	return fmt.Sprintf(`{"choices":[{"text":%s,"index":0,"logprobs":null,"finish_reason":%s}],"created":%s,"model":%s,`+
		`"system_fingerprint":"b1-de3ff81","object":"text_completion",%s"id":"chatcmpl-%032d"%s}`,
		quote(text), finish, created, quote(x.params.Model), counts, x.id, rest)
}

func llamaUsage(u usage) string {
	return fmt.Sprintf(`{"completion_tokens":%d,"prompt_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`,
		u.output, u.input, u.input+u.output, u.cached)
}

const llamaTimings = `,"timings":{"cache_n":29,"prompt_n":1,"prompt_ms":0.822,"prompt_per_token_ms":0.822,"prompt_per_second":1216.54501216545,` +
	`"predicted_n":7,"predicted_ms":1.607,"predicted_per_token_ms":0.2678333333333333,"predicted_per_second":3733.6652146857496}`

func llamaModels(x *exchange) reply {
	if x.server.memory != nil {
		return llamaRouterModels(x)
	}
	name := quote(x.server.names()[0])
	return x.json(`{"models":[{"name":` + name + `,"model":` + name + `,"modified_at":"","size":"","digest":"","type":"model","description":"",` +
		`"tags":[""],"capabilities":["completion"],"parameters":"","details":{"parent_model":"","format":"gguf","family":"","families":[""],` +
		`"parameter_size":"","quantization_level":""}}],"object":"list","data":[{"id":` + name + `,"aliases":[` + name + `],"tags":[],` +
		`"object":"model","created":` + created + `,"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":320,"n_ctx":2048,"n_ctx_train":4096,` +
		`"n_embd":384,"n_params":1083264,"size":4333056,"ftype":"all F32"}}]}`)
}

func llamaProps(x *exchange) reply {
	if x.server.memory != nil {
		return llamaRouterProps(x)
	}
	return x.json(fmt.Sprintf(`{"default_generation_settings":{"params":{"seed":4294967295,"temperature":0.8,"stream":false},"n_ctx":2048},"total_slots":%d,`+
		`"model_alias":%s,"model_ftype":"all F32","model_path":"/models/tiny.gguf","modalities":{"vision":false,"video":false,"audio":false},`+
		`"endpoint_slots":true,"endpoint_props":false,"endpoint_metrics":true,"chat_template":"","is_sleeping":false,"build_info":"b1-de3ff81"}`,
		x.server.slotCount(), quote(x.server.names()[0])))
}

func llamaSlots(x *exchange) reply {
	if x.server.memory != nil {
		return x.refuse(missingModel)
	}
	running, _ := x.server.load()
	if x.r.URL.Query().Get("fail_on_no_slot") == "1" && running >= x.server.slotCount() {
		return x.refuse(busy)
	}
	slots := make([]string, x.server.slotCount())
	for i := range slots {
		slots[i] = fmt.Sprintf(`{"id":%d,"n_ctx":2048,"speculative":false,"is_processing":%t}`, i, i < running)
	}
	return x.json(`[` + strings.Join(slots, ",") + `]`)
}

func llamaMetrics(x *exchange) reply {
	if x.server.memory != nil {
		return x.refuse(missingModel)
	}
	running, waiting := x.server.load()
	body := fmt.Sprintf("# HELP llamacpp:requests_processing Number of requests processing\n# TYPE llamacpp:requests_processing gauge\n"+
		"llamacpp:requests_processing %d\n# HELP llamacpp:requests_deferred Number of requests deferred\n"+
		"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred %d\n"+
		"# HELP llamacpp:tokens_predicted_total Number of generation tokens processed.\n# TYPE llamacpp:tokens_predicted_total counter\n"+
		"llamacpp:tokens_predicted_total %d\n# HELP llamacpp:n_decode_total Total number of llama_decode() calls\n"+
		"# TYPE llamacpp:n_decode_total counter\nllamacpp:n_decode_total %[3]d\n", running, waiting, x.server.generated.Load())
	return reply{status: http.StatusOK, contentType: "text/plain; version=0.0.4", body: []byte(body)}
}

// llamaRouterModels lists the models of a server in router mode.
func llamaRouterModels(x *exchange) reply {
	var list []string
	for _, name := range x.server.names() {
		list = append(list, `{"id":`+quote(name)+`,"aliases":[],"tags":[],"object":"model","owned_by":"llamacpp","created":`+created+
			`,"status":{"value":"`+x.server.memory.status(name)+`","args":["llama-server","--host","127.0.0.1","--port","0","--alias",`+quote(name)+
			`],"preset":""},"architecture":{"input_modalities":["text"],"output_modalities":["text"]},"source":"models_dir","can_remove":false}`)
	}
	return x.json(`{"data":[` + strings.Join(list, ",") + `],"object":"list"}`)
}

func llamaRouterProps(x *exchange) reply {
	return x.json(`{"role":"router","max_instances":` + strconv.Itoa(x.server.memory.most) + `,"models_autoload":true,"model_alias":"llama-server","model_path":"none",` +
		`"default_generation_settings":{"params":null,"n_ctx":0},"ui_settings":{},"build_info":"b1-7e4c0a9","cors_proxy_enabled":false}`)
}

// llamaLoad answers a request to load or unload a model, which does not wait until that is done.
func llamaLoad(x *exchange) reply {
	m, model := x.server.memory, struct{ Model string }{}
	if m == nil || json.Unmarshal(x.body, &model) != nil || !x.server.hasModel(model.Model) {
		return x.refuse(wrongPath)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	refuse := func(status int, message, typ string) reply {
		return x.error(apiError{status: status, message: message, typ: typ})
	}
	in := m.models[model.Model]
	switch {
	case x.path == "/models/unload" && in == nil:
		return refuse(http.StatusBadRequest, "model is not running", "")
	case x.path == "/models/unload":
		delete(m.models, model.Model)
	case in != nil:
		return refuse(http.StatusBadRequest, "model is already running", "")
	case !m.begin(model.Model):
		return refuse(http.StatusInternalServerError, "model limit reached, try again later", "server_error")
	}
	return x.json(`{"success":true}`)
}
