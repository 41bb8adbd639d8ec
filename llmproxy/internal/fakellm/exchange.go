package fakellm

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// An exchange is one request and its answer.
type exchange struct {
	server *Server
	kind   *kind
	r      *http.Request
	path   string // the endpoint: the URL's path without a prefix
	id     int64
	body   []byte
	params params
	answer Answer
	idle   bool                  // the request only loads a model
	render func(*exchange) reply // the kind's endpoint for the path; nil if the request does not generate
}

// params are the parameters of a request that its answer depends on.
type params struct {
	Model         string
	Stream        bool
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages, Prompt, Input json.RawMessage
	Documents               []json.RawMessage
	EncodingFormat          string `json:"encoding_format"`
	ResponseFormat          any    `json:"response_format"` // a string in a form
	Dimensions              int
	MaxTokens               int `json:"max_tokens"`
}

// generates reports whether the request asks to generate. Such requests are scripted, wait for a slot and count as in flight.
func (x *exchange) generates() bool { return x.render != nil && x.r.Method == http.MethodPost }

// parse reads the request and returns why it is refused, or accepted.
func (x *exchange) parse() refusal {
	contentType, params, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if contentType == "multipart/form-data" {
		if !x.parseForm(params["boundary"]) {
			return badJSON
		}
		return x.resolveModel()
	}
	if json.Unmarshal(x.body, &x.params) != nil {
		return badJSON
	}
	if validate := x.kind.validate; validate != nil {
		if why := validate(x); why != accepted {
			return why
		}
	} else if x.lacksInput() {
		return missingInput
	}
	return x.resolveModel()
}

// parseForm reads a form. It uses the standard library's parser, so that a form that the proxy damaged is refused.
func (x *exchange) parseForm(boundary string) bool {
	parts := multipart.NewReader(bytes.NewReader(x.body), boundary)
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return err == io.EOF
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return false
		}
		switch part.FormName() {
		case "model":
			x.params.Model = string(value)
		case "response_format":
			x.params.ResponseFormat = string(value)
		}
	}
}

// resolveModel sets the model's name for the answer, or refuses the model.
func (x *exchange) resolveModel() refusal {
	switch {
	case x.kind.ignoresModel && x.server.memory == nil, x.params.Model == "" && (x.kind.modelOptional || x.path == "/v1/moderations"):
		x.params.Model = x.server.names()[0]
	case x.params.Model == "":
		return missingModel
	case len(x.server.models) > 0 && !x.server.hasModel(x.params.Model):
		return unknownModel
	}
	return accepted
}

// lacksInput reports whether a request that must have messages, a prompt or an input has none.
func (x *exchange) lacksInput() bool {
	var input json.RawMessage
	switch x.path {
	case chatPath:
		input = x.params.Messages
	case "/v1/completions":
		input = x.params.Prompt
	case embeddingsPath, "/v1/responses", "/v1/responses/compact", "/v1/responses/input_tokens":
		input = x.params.Input
	default:
		return false
	}
	return len(input) == 0 || string(input) == "null"
}

// includeUsage reports whether a stream must end with its usage.
func (x *exchange) includeUsage() bool { return x.params.StreamOptions.IncludeUsage }

// A reply is an answer in the format of a kind, ready to be sent: a whole body, or the events of a stream.
type reply struct {
	status      int
	contentType string
	headers     []string // pairs of name and value
	verbatim    bool     // without the kind's headers

	body []byte

	stream                   bool
	opening, tokens, closing [][]byte // the opening has no content yet
	failure                  [][]byte // what ErrorEventAfter sends

	silent bool // nothing is sent, not even headers, until the client leaves
	reset  bool // the connection is reset before any headers
}

// reply returns the exchange's answer in the format of its kind.
func (x *exchange) reply() reply {
	a := &x.answer
	switch {
	case a.raw != nil:
		return rawReply(a.raw)
	case a.events != nil:
		return x.stream(nil, events(a.events...), nil)
	case a.status != 0:
		return x.error(apiError{status: a.status, message: "scripted status " + strconv.Itoa(a.status)})
	case a.refusal != accepted:
		return x.refuse(a.refusal)
	case a.garbage && x.params.Stream && isOllamaAPI(x.path):
		return ollamaBroken()
	case a.garbage && x.params.Stream:
		return x.stream(nil, events(`data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"Hel`), nil)
	case a.garbage:
		return reply{status: http.StatusOK, contentType: "text/html", body: []byte("<html><body>It works!</body></html>\n")}
	case a.errorInside:
		return x.openRouterError()
	case a.fault == errorEvent && !x.params.Stream:
		return x.refuse(internalError)
	}
	return x.render(x)
}

// json is a whole answer with status 200.
func (x *exchange) json(body string) reply {
	return reply{status: http.StatusOK, contentType: x.kind.jsonType, body: []byte(body + x.kind.jsonTail)}
}

// stream is an event stream with status 200.
func (x *exchange) stream(opening, tokens, closing [][]byte) reply {
	return reply{
		status: http.StatusOK, contentType: x.kind.streamType, headers: x.kind.streamHeaders, stream: true,
		opening: opening, tokens: tokens, closing: closing, failure: x.kind.streamError(x),
	}
}

// rawReply returns a script's own bytes as a reply. net/http sets the headers for the connection and the length.
func rawReply(raw *rawAnswer) reply {
	rep := reply{status: raw.status, verbatim: true}
	for name, values := range raw.header {
		switch name {
		case "Content-Type":
			rep.contentType = values[0]
		case "Content-Length", "Transfer-Encoding", "Keep-Alive", "Date":
		default:
			for _, v := range values {
				rep.headers = append(rep.headers, name, v)
			}
		}
	}
	if strings.HasPrefix(rep.contentType, "text/event-stream") {
		rep.stream, rep.tokens = true, bytes.SplitAfter(raw.body, []byte("\n\n"))
		return rep
	}
	rep.body = raw.body
	return rep
}

// openRouterError is an error object inside a 200: for a stream, in a chunk that also has a finish_reason.
func (x *exchange) openRouterError() reply {
	if isOllamaAPI(x.path) {
		return ollamaNative(http.StatusOK, `{"error":"Provider returned error"}`)
	}
	const failed = `"error":{"message":"Provider returned error","code":502,"metadata":{"provider_name":"Nobody"}}`
	if !x.params.Stream {
		return x.json(`{` + failed + `,"user_id":"user_1"}`)
	}
	chunk := `{"id":"gen-1","provider":"Nobody","model":` + quote(x.params.Model) + `,"object":"chat.completion.chunk","created":` + created +
		`,` + failed + `,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"error","native_finish_reason":"error"}]}`
	return x.stream(events(": OPENROUTER PROCESSING"), nil, [][]byte{data(chunk), data("[DONE]")})
}

// created is the time of every answer, so that tests see the same bytes every time.
const created = "1795424810"

// data frames JSON as an event.
func data(json string) []byte { return []byte("data: " + json + "\n\n") }

// events adds the blank line that ends an event where it is missing.
func events(list ...string) [][]byte {
	framed := make([][]byte, len(list))
	for i, e := range list {
		framed[i] = []byte(strings.TrimSuffix(strings.TrimSuffix(e, "\n"), "\n") + "\n\n")
	}
	return framed
}

// quote returns s as JSON.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // cannot fail for a string
	return strings.TrimSuffix(b.String(), "\n")
}

// orNull returns s as JSON, or null if s is empty.
func orNull(s string) string {
	if s == "" {
		return "null"
	}
	return quote(s)
}

// eachPair calls set for each name and value.
func eachPair(list []string, set func(name, value string)) {
	for p := range slices.Chunk(list, 2) {
		set(p[0], p[1])
	}
}
