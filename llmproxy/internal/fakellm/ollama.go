package fakellm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ollama is Ollama 0.32, with its own API and with OpenAI's. Nothing leaves before the first token, the role is in the first token's chunk, and if
// the runner dies during a stream of OpenAI's API, the stream simply ends.
var ollama = &kind{
	jsonType: "application/json", streamType: "text/event-stream", jsonTail: "\n",

	chatChunk: func(x *exchange, delta, finish string) string {
		return ollamaChunk(x, x.params.Model, `[{"index":0,"delta":`+delta+`,"finish_reason":`+finish+`}]`)
	},
	chatEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{ollamaChunk(x, x.params.Model, `[],"usage":`+x.answer.usage.counts()+`}`)}
		}
		return []string{x.kind.chatChunk(x, `{}`, quote(x.answer.finish))}, usage
	},
	reasoning: "reasoning",
	chatBody: func(x *exchange, message string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion","created":%s,"model":%s,"system_fingerprint":"fp_ollama",`+
			`"choices":[{"index":0,"message":{"role":"assistant",%s},"finish_reason":%s}],"usage":%s}}`,
			x.id%999, created, quote(x.params.Model), message, quote(x.answer.finish), x.answer.usage.counts())
	},
	// If the request asks for usage, every chunk has one, of zeros.
	textChunk: func(x *exchange, text, finish string) string {
		return ollamaText(x, `[{"text":`+quote(text)+`,"index":0,"finish_reason":`+finish+`}]`, usage{})
	},
	textEnd: func(x *exchange) (finish, usage []string) {
		if x.includeUsage() {
			usage = []string{ollamaText(x, `[]`, x.answer.usage)}
		}
		return []string{x.kind.textChunk(x, "", quote(x.answer.finish))}, usage
	},
	textBody: func(x *exchange, text string) string {
		return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"model":%s,"system_fingerprint":"fp_ollama",`+
			`"choices":[{"text":%s,"index":0,"finish_reason":%s}],"usage":%s}}`,
			x.id%999, created, quote(x.params.Model), quote(text), quote(x.answer.finish), x.answer.usage.counts())
	},
	errorBody: func(e apiError) string {
		return fmt.Sprintf(`{"error":{"message":%s,"type":%s,"param":null,"code":null}}`, quote(e.message), quote(cmp.Or(e.typ, "api_error")))
	},
	// The runner was killed: one empty chunk, and a clean end.
	streamError: func(x *exchange) [][]byte {
		switch {
		case isOllamaAPI(x.path):
			return [][]byte{[]byte(`{"error":"an error was encountered while running the model: unexpected EOF"}` + "\n")}
		case x.path != chatPath:
			return nil
		}
		return [][]byte{data(ollamaChunk(x, "", `[{"index":0,"delta":{"content":""},"finish_reason":null}]`))}
	},
	validate: func(x *exchange) refusal {
		x.params.Stream = x.params.Stream || isOllamaAPI(x.path) && !bytes.Contains(x.body, []byte(`"stream":false`))
		switch {
		case x.path == chatPath && (x.lacksInput() || string(x.params.Messages) == "[]"):
			return missingInput
		case x.path == embeddingsPath && !isText(x.params.Input):
			return tokenInput
		}
		return accepted
	},
	responses: responsesStyle{typeLast: true, streamHeaders: []string{"Cache-Control", "no-cache"}},
	intercept: ollamaIntercept,
	idle:      ollamaIdle,
	endpoints: map[string]func(x *exchange) reply{
		chatPath:                   renderChat,
		"/v1/completions":          renderCompletion,
		embeddingsPath:             renderEmbeddings,
		"/v1/responses":            renderResponse,
		messagesPath:               ollamaMessages.render,
		"/v1/audio/transcriptions": renderTranscription,
		"/api/chat":                renderOllama,
		"/api/generate":            renderOllama,
		"/api/embed":               renderOllamaEmbed,
		"/api/embeddings":          renderOllamaEmbed,
	},
	model: ollamaModel,
	probes: map[string]func(x *exchange) reply{
		"GET /": func(*exchange) reply {
			return reply{status: http.StatusOK, contentType: "text/plain; charset=utf-8", body: []byte("Ollama is running")}
		},
		"GET /api/version": func(*exchange) reply { return ollamaNative(http.StatusOK, `{"version":"0.32.15"}`) },
		"GET /api/tags":    ollamaTags,
		"GET /api/ps":      ollamaPs,
		"POST /api/chat":   ollamaLoad, "POST /api/generate": ollamaLoad, "POST /api/embed": ollamaLoad,
		"POST /api/show": ollamaShow,
		"GET /v1/models": modelList(ollamaModel),
	},
	errors: map[refusal]apiError{
		busy:         {status: http.StatusServiceUnavailable, message: "server busy, please try again.  maximum pending requests exceeded"},
		unknownModel: {status: http.StatusNotFound, message: "model '{model}' not found", typ: "not_found_error"},
		loading:      {silent: true},
		tooLong: { // the runner's JSON, as a string
			status: http.StatusBadRequest, typ: "invalid_request_error",
			message: `{"error":{"code":400,"message":"request (20010 tokens) exceeds the available context size (4096 tokens), try increasing it",` +
				`"type":"exceed_context_size_error","n_prompt_tokens":20010,"n_ctx":4096}}`,
		},
		noTools: {status: http.StatusBadRequest, message: "registry.ollama.ai/library/{model} does not support tools", typ: "invalid_request_error"},
		internalError: {
			status:  http.StatusInternalServerError,
			message: "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details",
		},
		unauthorized: {status: http.StatusUnauthorized, message: "unauthorized"},
		badJSON:      {status: http.StatusBadRequest, message: "unexpected EOF", typ: "invalid_request_error", contentType: ginJSON},
		missingInput: {status: http.StatusBadRequest, message: "[] is too short - 'messages'", typ: "invalid_request_error", contentType: ginJSON},
		missingModel: {status: http.StatusBadRequest, message: "model is required", typ: "invalid_request_error"},
		tokenInput:   {status: http.StatusBadRequest, message: "invalid input type", typ: "invalid_request_error"},
		wrongPath:    {status: http.StatusNotFound, body: "404 page not found", contentType: "text/plain"},
		wrongMethod:  {status: http.StatusMethodNotAllowed, body: "405 method not allowed", contentType: "text/plain"},
	},
}

// ginJSON is the content type of what Ollama's web framework writes itself.
const ginJSON = "application/json; charset=utf-8"

// ollamaChunk is a chunk. Ollama's ids run from 0 to 998, so they collide.
func ollamaChunk(x *exchange, model, choices string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%s,"model":%s,"system_fingerprint":"fp_ollama","choices":%s}`,
		x.id%999, created, quote(model), choices)
}

func ollamaText(x *exchange, choices string, u usage) string {
	counts := ""
	if x.includeUsage() {
		counts = `,"usage":` + u.counts() + `}`
	}
	return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"choices":%s,"model":%s,"system_fingerprint":"fp_ollama"%s}`,
		x.id%999, created, choices, quote(x.params.Model), counts)
}

// ollamaIntercept refuses what a web page could send to a server on loopback. While a model loads, it holds back the requests
// that need the model and GET /api/ps, which waits for the scheduler's lock.
func ollamaIntercept(x *exchange, loading <-chan struct{}) (reply, bool) {
	if foreignPage(x.r) {
		return reply{status: http.StatusForbidden}, true
	}
	needsModel := x.r.Method == http.MethodPost && (strings.HasPrefix(x.path, "/v1/") || x.kind.endpoints[x.path] != nil)
	if loading == nil || !needsModel && x.path != "/api/ps" {
		return reply{}, false
	}
	select {
	case <-loading:
		return reply{}, false
	case <-x.r.Context().Done():
		return reply{silent: true}, true
	}
}

// foreignPage reports whether Host or Origin is a name that is not local.
func foreignPage(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	origin, err := url.Parse(r.Header.Get("Origin"))
	return !localName(host) || err != nil || !localName(origin.Hostname())
}

func localName(host string) bool {
	return host == "" || host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil ||
		strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// isText reports whether an input is text, not tokens.
func isText(input json.RawMessage) bool {
	var one string
	var many []string
	return json.Unmarshal(input, &one) == nil || json.Unmarshal(input, &many) == nil
}

// ollamaNative is an answer of Ollama's own API.
func ollamaNative(status int, body string) reply {
	return reply{status: status, contentType: ginJSON, body: []byte(body)}
}

func ollamaModel(_ *exchange, id string) string {
	return `{"id":` + quote(id) + `,"object":"model","created":` + created + `,"owned_by":"library"}`
}

const (
	ollamaDigest  = `"digest":"86b2a5e32c19962cd9ac3929a74b41326c86d450a79dd2a577a84321020384f8"`
	ollamaDetails = `"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"1.08M","quantization_level":"unknown"`
)

func ollamaTags(x *exchange) reply {
	return ollamaList(x.server.names(), `"modified_at":"2026-11-23T09:06:19.185733682Z","size":4341849,`+ollamaDigest+`,`+ollamaDetails+
		`,"context_length":4096,"embedding_length":384},"capabilities":["completion"]`)
}

// ollamaPs reports every model as loaded, also those that a server without the option Models has only been asked for.
func ollamaPs(x *exchange) reply {
	return ollamaList(slices.Concat(x.server.names(), x.server.askedFor()), `"size":24798821,`+ollamaDigest+`,`+ollamaDetails+
		`},"expires_at":"2026-11-23T09:28:39.025756467Z","size_vram":0,"context_length":4096`)
}

// askedFor returns the models that a server without the option Models does not list and has generated with, or loaded.
func (s *Server) askedFor() (names []string) {
	if len(s.models) > 0 {
		return nil
	}
	s.traffic.read(func() {
		for _, req := range s.traffic.kept {
			var body struct{ Model string }
			if req.Method != http.MethodPost || req.Path == "/api/show" || json.Unmarshal(req.Body, &body) != nil || body.Model == "" {
				continue
			}
			if !s.hasModel(body.Model) && !slices.Contains(names, body.Model) {
				names = append(names, body.Model)
			}
		}
	})
	return names
}

func ollamaList(names []string, rest string) reply {
	var entries []string
	for _, name := range names {
		name = quote(name)
		entries = append(entries, `{"name":`+name+`,"model":`+name+`,`+rest+`}`)
	}
	return ollamaNative(http.StatusOK, `{"models":[`+strings.Join(entries, ",")+`]}`)
}

func ollamaShow(x *exchange) reply {
	if json.Unmarshal(x.body, &x.params) != nil || x.params.Model == "" {
		return ollamaNative(http.StatusBadRequest, `{"error":"model is required"}`)
	}
	if !x.server.hasModel(x.params.Model) {
		return ollamaNative(http.StatusNotFound, `{"error":"model '`+x.params.Model+`' not found"}`)
	}
	return ollamaNative(http.StatusOK, `{"modelfile":"FROM tiny","template":"{{ .Prompt }}",`+ollamaDetails+`},"model_info":{"general.architecture":"llama",`+
		`"general.parameter_count":1083264,"llama.context_length":4096,"llama.embedding_length":384},"tensors":[],`+
		`"capabilities":["tools","thinking","completion"],"modified_at":"2026-11-23T09:06:19.185733682Z"}`)
}
