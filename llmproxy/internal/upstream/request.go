package upstream

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Call is what all attempts of one request share.
type Call struct {
	Endpoint *openai.Endpoint
	// ID is the request's id, sent along so that it can be found in the upstream's log.
	ID string
	// Header is the client's; only what allowedHeaders names goes up.
	Header http.Header
	// Head is the request's JSON, or nil for a form.
	Head *openai.Head
	// Memory is what the JSON lies in; nil where that is not used again.
	Memory *jsonspan.Buffer
	// Form opens the request's form with another model in it; nil for JSON.
	Form func(model string) Payload
	// MaxOutput bounds the tokens of output that the next attempt asks for; zero leaves the request's own bound.
	MaxOutput int
	edit      jsonspan.Edit
	id        [1]string // the value of its header
}

// A Payload is a request body that can be sent more than once.
type Payload interface {
	Len() int64
	Open() io.ReadCloser
}

// Everything else of the client's headers stays here: its credentials, its cookies, its address.
var allowedHeaders = []string{"Accept", "Openai-Beta", "Idempotency-Key", "Traceparent", "Tracestate"}

// alike are the headers that may differ between two requests that are to get the same answer.
var alike = []string{"Accept", "Idempotency-Key", "Traceparent", "Tracestate", "X-Request-Id"}

// TellingHeaders are the client's headers that go up, in their canonical spelling, but for those that say nothing of the answer.
func TellingHeaders() []string {
	return slices.DeleteFunc(slices.Clone(allowedHeaders), func(name string) bool { return slices.Contains(alike, name) })
}

// Changed are the headers, and the host, that a client's request has here when header_up has done its work, but for our key and those
// that say nothing of the answer: what it may depend on, whatever the placeholders stand for. Nil where header_up changes nothing.
func (u *Upstream) Changed(ctx context.Context, client http.Header) (h http.Header, host string) {
	if u.HeaderUp == nil {
		return nil, ""
	}
	h = make(http.Header, 8)
	for _, name := range allowedHeaders {
		if v := client[name]; v != nil {
			h[name] = slices.Clone(v)
		}
	}
	req := (&http.Request{Method: http.MethodPost, URL: &url.URL{}, Header: h}).WithContext(ctx)
	u.HeaderUp(req)
	for _, name := range alike {
		delete(h, name)
	}
	return h, req.Host
}

// userAgent is sent in place of the client's.
var userAgent = []string{"caddy-llmproxy"}

var (
	identity = []string{"identity"}
	// What curl -d sends says "form"; llama.cpp and vLLM read JSON only from what says so.
	jsonType = []string{"application/json"}
)

// Request builds the request for one attempt at a replica.
func (u *Upstream) Request(ctx context.Context, call *Call, replica *router.Replica, model string) *http.Request {
	payload := u.payload(call, model)
	body := payload.Open()
	base := u.base(replica)
	req := (&http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + call.Endpoint.Path},
		Host:   base.Host,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        u.header(call),
		Body:          body,
		ContentLength: payload.Len(),
		// With it a transport may send again what a kept-alive connection lost before anything was answered.
		GetBody: func() (io.ReadCloser, error) { return payload.Open(), nil },
	}).WithContext(ctx)
	if u.HeaderUp != nil {
		u.HeaderUp(req)
	}
	return req
}

func (u *Upstream) header(call *Call) http.Header {
	h := make(http.Header, 8)
	for _, name := range allowedHeaders {
		if v := call.Header[name]; v != nil {
			h[name] = v
		}
	}
	h["Content-Type"] = jsonType
	if call.Head == nil {
		h["Content-Type"] = call.Header["Content-Type"] // the form's boundary stands there
	}
	// Go would ask for gzip by itself, and a compressed answer cannot be read for usage and errors.
	h["Accept-Encoding"] = identity
	h["User-Agent"] = userAgent
	if call.id[0] == "" { // once: a transport may still read the headers of another attempt
		call.id[0] = call.ID
	}
	h["X-Request-Id"] = call.id[:]
	u.authorize(h)
	return h
}

func (u *Upstream) authorize(h http.Header) {
	if u.APIKey != "" {
		h["Authorization"] = []string{"Bearer " + u.APIKey}
	}
}

// payload is the request's body as this upstream wants it: the client's bytes, spliced.
func (u *Upstream) payload(call *Call, model string) Payload {
	if call.Head == nil {
		return call.Form(model)
	}
	e := &call.edit
	e.Reset(&call.Head.Object)
	e.SetString("model", model)
	if repair := u.Speaks().repair; repair != nil {
		repair(e)
	}
	for _, p := range u.Params {
		e.Default(p.Name, p.Value)
	}
	if call.MaxOutput > 0 {
		clampOutput(e, call.MaxOutput)
	}
	if call.Head.Stream && call.Endpoint.AsksUsage {
		openai.AskUsage(e, call.Head)
	}
	for _, name := range u.Drop {
		e.Drop(name)
	}
	if len(u.Drop) > 0 && !e.Has("stream") {
		e.Drop("stream_options") // refused by OpenAI and vLLM where nothing streams
	}
	return e.Body().In(call.Memory)
}

// clampOutput bounds the output by whichever name the request has for it.
func clampOutput(e *jsonspan.Edit, n int) {
	value := strconv.AppendInt(nil, int64(n), 10)
	found := false
	for _, name := range [...]string{"max_completion_tokens", "max_tokens", "max_output_tokens"} {
		if e.Has(name) {
			e.Set(name, value)
			found = true
		}
	}
	if !found {
		e.Set("max_tokens", value)
	}
}
