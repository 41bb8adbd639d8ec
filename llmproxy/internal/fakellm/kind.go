package fakellm

import (
	"cmp"
	"net/http"
	"strings"
)

// kinds are the servers that can be imitated, each described in a file of its own.
var kinds = map[string]*kind{"openai": openai, "ollama": ollama, "vllm": vllm, "llamacpp": llamacpp, "anthropic": anthropic}

// A kind describes the answers of one real server.
type kind struct {
	jsonType, streamType string   // content types
	jsonTail             string   // after every JSON answer
	headers              []string // of every answer, as pairs of name and value
	streamHeaders        []string
	errorHeaders         []string
	noDate               bool
	earlyHeaders         bool // the headers of a stream are sent before the first token
	ignoresModel         bool // any model name is accepted
	modelOptional        bool // a request without a model gets the first one
	anyPrefix            bool // any path may precede /v1

	endpoints map[string]func(x *exchange) reply  // that generate, by path
	probes    map[string]func(x *exchange) reply  // all others, by method and path
	model     func(x *exchange, id string) string // the answer to GET /v1/models/{id}; nil if there is no such endpoint

	// Chat completions and completions, in JSON. A finish is "null" or a quoted reason; an end is the events after the last token.
	roleDelta string // opens a chat stream; if empty, the first token's chunk has the role
	chatChunk func(x *exchange, delta, finish string) string
	chatEnd   func(x *exchange) (finish, usage []string)
	chatBody  func(x *exchange, message string) string // gets "content" and what follows it in a message
	reasoning string                                   // the member of reasoning in a message; default "reasoning_content"
	textChunk func(x *exchange, text, finish string) string
	textEnd   func(x *exchange) (finish, usage []string)
	textBody  func(x *exchange, text string) string

	embedding       func(vector string, index int, base64 bool) string // nil means OpenAI's format
	fixedDimensions bool                                               // dimensions in a request are ignored
	responses       responsesStyle
	errorBody       func(e apiError) string
	errors          map[refusal]apiError
	streamError     func(x *exchange) [][]byte // the events that report a failure in a stream

	// validate returns why the request is refused. Without it, the request must have an input.
	validate func(x *exchange) refusal
	// idle reports whether a request to an endpoint that generates does not ask to. Such a request is answered by a probe.
	idle func(path string, body []byte) bool
	// intercept may answer any request before the script and the endpoints are consulted. loading is closed when the model is
	// loaded; nil while none is loading.
	intercept func(x *exchange, loading <-chan struct{}) (reply, bool)
}

// path returns the endpoint of a URL's path.
func (k *kind) path(p string) string {
	if i := strings.LastIndex(p, "/v1/"); k.anyPrefix && i > 0 {
		return p[i:]
	}
	return p
}

// An apiError is how a kind reports a refusal. {model} and {path} in the message stand for those of the request.
type apiError struct {
	status           int
	message          string
	typ, param, code string
	contentType      string // unless it is the kind's
	body             string // unless it is in the kind's format
	headers          []string
	silent, reset    bool // no answer at all; see reply
}

// proxyErrors are refusals by a service or by a proxy in front of a server of any kind.
var proxyErrors = map[refusal]apiError{
	rateLimited: {
		status:  http.StatusTooManyRequests,
		headers: []string{"Retry-After", "1", "X-Ratelimit-Limit-Requests", "500", "X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1s"},
		body: `{"error":{"message":"Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 1s.",` +
			`"type":"requests","param":null,"code":"rate_limit_exceeded"}}`,
	},
	noQuota: {
		status: http.StatusTooManyRequests,
		body: `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.",` +
			`"type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`,
	},
}

// refuse returns the kind's answer to a refusal.
func (x *exchange) refuse(why refusal) reply {
	e, found := proxyErrors[why]
	if !found {
		e, found = x.kind.errors[why]
	}
	if !found { // outputTooLong is not an error of this kind: the output is truncated
		x.answer.finish = "length"
		return x.render(x)
	}
	return x.error(e)
}

// wrongMethod answers a known path with another method.
func (x *exchange) wrongMethod(allowed string) reply {
	rep := x.refuse(wrongMethod)
	if rep.status == http.StatusMethodNotAllowed {
		rep.headers = append(rep.headers, "Allow", allowed)
	}
	return rep
}

func (x *exchange) error(e apiError) reply {
	if e.body == "" {
		e.message = strings.NewReplacer("{model}", x.params.Model, "{path}", x.r.Method+" "+x.r.URL.Path).Replace(e.message)
		if isOllamaAPI(x.path) {
			e.body, e.contentType = `{"error":`+quote(e.message)+`}`, ginJSON
		} else {
			e.body = x.kind.errorBody(e)
		}
		if e.contentType == "" {
			e.body += x.kind.jsonTail
		}
	}
	return reply{
		status: e.status, contentType: cmp.Or(e.contentType, x.kind.jsonType), body: []byte(e.body), silent: e.silent, reset: e.reset,
		headers: append(e.headers[:len(e.headers):len(e.headers)], x.kind.errorHeaders...),
	}
}

// probe answers a request that does not generate, and any that the kind does not know.
func (x *exchange) probe() reply {
	k, method := x.kind, x.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := k.probes[method+" "+x.path]; f != nil {
		return f(x)
	}
	for _, allowed := range []string{http.MethodGet, http.MethodPost} {
		if k.probes[allowed+" "+x.path] != nil {
			return x.wrongMethod(allowed)
		}
	}
	id, ok := strings.CutPrefix(x.path, "/v1/models/")
	if !ok || k.model == nil || method != http.MethodGet {
		return x.refuse(wrongPath)
	}
	if x.params.Model = id; !x.server.hasModel(id) {
		return x.refuse(unknownModel)
	}
	return x.json(k.model(x, id))
}

// modelList answers GET /v1/models.
func modelList(entry func(x *exchange, id string) string) func(*exchange) reply {
	return func(x *exchange) reply {
		var entries []string
		for _, name := range x.server.names() {
			entries = append(entries, entry(x, name))
		}
		return x.json(`{"object":"list","data":[` + strings.Join(entries, ",") + `]}`)
	}
}

// constant answers with the same JSON every time.
func constant(body string) func(*exchange) reply {
	return func(x *exchange) reply { return x.json(body) }
}
