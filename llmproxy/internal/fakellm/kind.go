package fakellm

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// A kind is what one real server's answers look like: the rows are in openai.go, ollama.go, vllm.go and llamacpp.go.
type kind struct {
	name      string
	json, sse string   // content types
	tail      string   // after a whole answer; Ollama's ends with a line feed
	header    []string // of every answer
	onStream  []string // of streams
	onError   []string // of refusals
	noDate    bool
	early     bool // headers of a stream leave before the first token is there
	anyModel  bool // the name asked for does not matter
	// firstModel: a request that names none gets the first.
	firstModel bool
	prefix     bool // anything may stand before /v1

	// Chat and completions.
	role       string // the delta that opens a chat stream; none: the first token's chunk has the role
	chunk      func(c *call, delta, finish string) string
	end        func(c *call) (finish, usage string)
	chat       func(c *call, text string) string
	piece      func(c *call, text, finish string) string
	pieceEnd   func(c *call) (finish, usage []string)
	completion func(c *call, text string) string

	embedding func(item, index string, base64 bool) string

	shape    func(p problem) string // the body of a refusal
	problems map[refusal]problem
	failure  func(c *call) [][]byte // how a failure is told under way
	unfit    func(c *call) refusal

	probes    map[string]func(c *call) reply // by method and path
	oneModel  func(c *call, id string) string
	forbidden func(r *http.Request) bool
	loads     func(c *call, loaded <-chan struct{}) (reply, bool)
}

var kinds = map[string]*kind{"openai": openai, "ollama": ollama, "vllm": vllm, "llamacpp": llamacpp}

// A problem is an error as a kind tells it. {model} in the message stands for the name asked for.
type problem struct {
	status           int
	message          string
	typ, param, code string
	ctype            string // if it is not the kind's
	body             string // if it does not have the kind's shape
	header           []string
}

// path is the endpoint of a URL's path.
func (k *kind) path(p string) string {
	if i := strings.LastIndex(p, "/v1/"); k.prefix && i > 0 {
		return p[i:]
	}
	return p
}

func (k *kind) forbid(c *call) (reply, bool) {
	if k.forbidden == nil || !k.forbidden(c.r) {
		return reply{}, false
	}
	return reply{status: http.StatusForbidden}, true
}

func (k *kind) load(c *call, loaded <-chan struct{}) (reply, bool) {
	if k.loads == nil || loaded == nil {
		return reply{}, false
	}
	return k.loads(c, loaded)
}

// probe answers what does not generate, and what the kind does not have.
func (k *kind) probe(c *call) reply {
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := k.probes[method+" "+c.path]; f != nil {
		return f(c)
	}
	for _, other := range []string{http.MethodGet, http.MethodPost} {
		if k.probes[other+" "+c.path] != nil {
			return k.wrongMethod(c, other)
		}
	}
	id, ok := strings.CutPrefix(c.path, "/v1/models/")
	if !ok || k.oneModel == nil || method != http.MethodGet {
		return c.refuse(k.notFound(c))
	}
	if c.ask.Model = id; !c.has(id) {
		return c.refuse(k.problems[unknownModel])
	}
	return c.json(k.oneModel(c, id))
}

func (k *kind) notFound(c *call) problem {
	p := k.problems[wrongPath]
	p.message = strings.ReplaceAll(p.message, "{path}", c.r.Method+" "+c.r.URL.Path)
	return p
}

func (k *kind) wrongMethod(c *call, allowed string) reply {
	p := k.problems[wrongMethod]
	p.message = strings.ReplaceAll(p.message, "{path}", c.r.Method+" "+c.r.URL.Path)
	rep := c.refuse(p)
	if p.status == http.StatusMethodNotAllowed {
		rep.header = append(rep.header, "Allow", allowed)
	}
	return rep
}

// refused is the kind's answer to a reason, which a few kinds have in deeds only.
func (c *call) refused(e endpoint) reply {
	p, ok := c.kind.problems[c.answer.refusal]
	if front, always := inFront[c.answer.refusal]; always {
		p, ok = front, true
	}
	switch {
	case ok:
		return c.refuse(p)
	case c.answer.refusal == loading:
		return reply{silent: c.kind.name == "ollama", severed: c.kind.name == "vllm"}
	}
	c.answer.finish = "length" // outputTooLong, where that is no error
	return e.render(c)
}

func (c *call) refuse(p problem) reply {
	p.message = strings.ReplaceAll(p.message, "{model}", c.ask.Model)
	rep := reply{status: p.status, ctype: c.kind.json, header: append(p.header[:len(p.header):len(p.header)], c.kind.onError...)}
	switch {
	case p.body != "":
		rep.body = []byte(p.body)
	default:
		rep.body = []byte(c.kind.shape(p) + c.kind.tail)
	}
	if p.ctype != "" {
		rep.ctype = p.ctype
		rep.body = []byte(strings.TrimSuffix(string(rep.body), c.kind.tail))
	}
	return rep
}

// inFront are the refusals that come from what stands in front of a server.
var inFront = map[refusal]problem{
	rateLimited: {
		status: http.StatusTooManyRequests,
		header: []string{"Retry-After", "1", "X-Ratelimit-Limit-Requests", "500", "X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1s"},
		body: `{"error":{"message":"Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 1s.",` +
			`"type":"requests","param":null,"code":"rate_limit_exceeded"}}`,
	},
	noQuota: {
		status: http.StatusTooManyRequests,
		body: `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.",` +
			`"type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`,
	},
}

// numbered is the error object with an int as its code: vLLM, llama-server.
func numbered(p problem) string {
	return fmt.Sprintf(`{"error":{"message":%s,"type":%s,"param":%s,"code":%d}}`, quote(p.message), quote(p.typ), orNull(p.param), p.status)
}

func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return quote(s)
}

// or is the first of two strings that says something.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }
