package fakellm

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ollama is Ollama 0.32's OpenAI layer. What matters most: nothing leaves before the first token is there, the role is in the
// first token's chunk, and a runner that dies under way leaves a stream that just ends.
var ollama = &kind{
	name: "ollama", json: "application/json", sse: "text/event-stream", tail: "\n",

	chunk: func(c *call, delta, finish string) string {
		return ollamaChunk(c, c.ask.Model, `[{"index":0,"delta":`+delta+`,"finish_reason":`+finish+`}]`)
	},
	end: func(c *call) (finish, usage string) {
		if c.asksUsage() {
			usage = ollamaChunk(c, c.ask.Model, `[],"usage":`+c.answer.usage.counts()+`}`)
		}
		return c.kind.chunk(c, `{}`, quote(c.answer.finish)), usage
	},
	chat: func(c *call, text string) string {
		return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion","created":%s,"model":%s,"system_fingerprint":"fp_ollama",`+
			`"choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":%s}],"usage":%s}}`,
			c.id%999, created, quote(c.ask.Model), quote(text), quote(c.answer.finish), c.answer.usage.counts())
	},
	// Once usage is asked for, every piece has one, of zeros.
	piece: func(c *call, text, finish string) string {
		return ollamaPiece(c, `[{"text":`+quote(text)+`,"index":0,"finish_reason":`+finish+`}]`, usage{})
	},
	pieceEnd: func(c *call) (finish, usage []string) {
		if c.asksUsage() {
			usage = []string{ollamaPiece(c, `[]`, c.answer.usage)}
		}
		return []string{c.kind.piece(c, "", quote(c.answer.finish))}, usage
	},
	completion: func(c *call, text string) string {
		return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"model":%s,"system_fingerprint":"fp_ollama",`+
			`"choices":[{"text":%s,"index":0,"finish_reason":%s}],"usage":%s}}`,
			c.id%999, created, quote(c.ask.Model), quote(text), quote(c.answer.finish), c.answer.usage.counts())
	},
	embedding: plainEmbedding,
	shape: func(p problem) string {
		return fmt.Sprintf(`{"error":{"message":%s,"type":%s,"param":null,"code":null}}`, quote(p.message), quote(or(p.typ, "api_error")))
	},
	// runner-killed-midstream-v1: one chunk of nothing, and a clean end.
	failure: func(c *call) [][]byte {
		if c.path != chatPath {
			return nil
		}
		return [][]byte{data(ollamaChunk(c, "", `[{"index":0,"delta":{"content":""},"finish_reason":null}]`))}
	},
	unfit: func(c *call) refusal {
		switch {
		case c.path == chatPath && (c.lacks() || string(c.ask.Messages) == "[]"):
			return missingInput
		case c.path == "/v1/embeddings" && !stringsOnly(c.ask.Input):
			return tokenInput
		}
		return accepted
	},
	forbidden: ollamaForbids,
	loads:     ollamaLoads,
	oneModel:  ollamaModel,
	probes: map[string]func(c *call) reply{
		"GET /": func(*call) reply {
			return reply{status: http.StatusOK, ctype: "text/plain; charset=utf-8", body: []byte("Ollama is running")}
		},
		"GET /api/version": func(*call) reply { return ollamaNative(http.StatusOK, `{"version":"0.32.15"}`) },
		"GET /api/tags":    ollamaTags,
		"GET /api/ps":      ollamaPs,
		// Without a prompt it loads the model.
		"POST /api/generate": func(c *call) reply {
			return c.json(`{"model":"tiny","created_at":"2026-11-23T00:00:00Z","response":"","done":true,"done_reason":"load"}`)
		},
		"POST /api/show": ollamaShow,
		"GET /v1/models": func(c *call) reply { return c.list(ollamaModel) },
	},
	problems: map[refusal]problem{
		busy:         {status: http.StatusServiceUnavailable, message: "server busy, please try again.  maximum pending requests exceeded"},
		unknownModel: {status: http.StatusNotFound, message: "model '{model}' not found", typ: "not_found_error"},
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
		badJSON:      {status: http.StatusBadRequest, message: "unexpected EOF", typ: "invalid_request_error", ctype: ginJSON},
		missingInput: {status: http.StatusBadRequest, message: "[] is too short - 'messages'", typ: "invalid_request_error", ctype: ginJSON},
		missingModel: {status: http.StatusBadRequest, message: "model is required", typ: "invalid_request_error"},
		tokenInput:   {status: http.StatusBadRequest, message: "invalid input type", typ: "invalid_request_error"},
		wrongPath:    {status: http.StatusNotFound, body: "404 page not found", ctype: "text/plain"},
		wrongMethod:  {status: http.StatusMethodNotAllowed, body: "405 method not allowed", ctype: "text/plain"},
	},
}

// ginJSON is the type of what Ollama's web framework writes, in place of its OpenAI layer.
const ginJSON = "application/json; charset=utf-8"

// ollamaChunk is a chunk; its ids run from 0 to 998 and collide.
func ollamaChunk(c *call, model, choices string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%s,"model":%s,"system_fingerprint":"fp_ollama","choices":%s}`,
		c.id%999, created, quote(model), choices)
}

func ollamaPiece(c *call, choices string, u usage) string {
	counts := ""
	if c.asksUsage() {
		counts = `,"usage":` + u.counts() + `}`
	}
	return fmt.Sprintf(`{"id":"cmpl-%d","object":"text_completion","created":%s,"choices":%s,"model":%s,"system_fingerprint":"fp_ollama"%s}`,
		c.id%999, created, choices, quote(c.ask.Model), counts)
}

// ollamaForbids refuses what a page in a browser could send to a server on loopback: foreign names in Host and Origin.
func ollamaForbids(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if !ours(host) {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || !ours(u.Hostname())
}

func ours(host string) bool {
	switch {
	case host == "", host == "localhost", net.ParseIP(strings.Trim(host, "[]")) != nil:
		return true
	}
	return strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// ollamaLoads holds what needs the model that is being loaded, and GET /api/ps, which waits for a lock (local-servers §3.1).
func ollamaLoads(c *call, loaded <-chan struct{}) (reply, bool) {
	if c.path != "/api/ps" && (c.r.Method != http.MethodPost || !strings.HasPrefix(c.path, "/v1/") && c.path != "/api/generate") {
		return reply{}, false
	}
	select {
	case <-loaded:
		return reply{}, false
	case <-c.r.Context().Done():
		return reply{silent: true}, true
	}
}
