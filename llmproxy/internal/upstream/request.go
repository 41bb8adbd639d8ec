package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/memory"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Template is what the upstream requests of all attempts at one client request have in common.
type Template struct {
	Endpoint *openai.Endpoint
	// ID is the request's ID, which is sent along so that it can be found in the upstream's log.
	ID string
	// Header is the client's. Only forwardedHeaders are sent.
	Header http.Header
	// JSON is the request's JSON, or nil for a form.
	JSON *openai.Request
	// Own is the endpoint that the client called if it belongs to another API than OpenAI's, else nil. Endpoint is what it becomes.
	Own *dialect.Endpoint
	// Original is the client's request to Own. JSON is its translation.
	Original *openai.Request
	// Passable means that the client can get an answer in the format of its own API as it is.
	Passable bool
	// Memory holds the JSON, or is nil if the memory is not reused.
	Memory *reqbody.Memory
	// Answers is the account of what is held of answers, and of translations of the request; nil for no maximum.
	Answers *memory.Account
	// Form returns the request's form with another model in it. It is nil for JSON.
	Form func(model string) Payload
	// MaxOutput bounds the tokens of output that the next attempt asks for; zero leaves the request's own bound.
	MaxOutput int

	// What the target has said of this request's earlier attempts; see Adjust.
	without []string         // names of additions that it refused
	takes   thinking.Efforts // that it takes; zero if it has said nothing about that

	added []*addition     // what the gateway added to the last request
	said  thinking.Effort // that the last request asked for

	// For the next attempt, by Prepare: chat is the request, or body is for path if the upstream has another API than OpenAI's.
	// Translated is storage for both. The detour is nil if the server has the endpoint.
	detour     *detour
	chat       *openai.Request
	translated *openai.Request
	body       Payload
	path       string
	native     bool  // body is for the Messages API of a server whose API is OpenAI's
	reserved   int64 // for translations of the request
	edit       jsonspan.Edit
	id         [1]string // the value of its header
}

// endpoint returns the endpoint of OpenAI's API that the next attempt's request is for.
func (t *Template) endpoint() *openai.Endpoint {
	if t.detour != nil {
		return chatEndpoint
	}
	return t.Endpoint
}

// ByChat reports whether the request goes by chat instead of the endpoint that the client called.
func (t *Template) ByChat() bool { return t.detour != nil }

// usesResponses reports whether the next attempt's request goes to the Responses API of the server itself.
func (t *Template) usesResponses() bool {
	return t.detour == nil && strings.HasPrefix(t.Endpoint.Path, "/responses")
}

// request returns the next attempt's request in OpenAI's format, before it is changed for the upstream. It is nil for a form.
func (t *Template) request() *openai.Request {
	if t.detour != nil {
		return &t.detour.request
	}
	return t.JSON
}

// memory returns the pooled memory that holds this request.
func (t *Template) memory() *reqbody.Memory {
	if t.detour != nil {
		return &t.detour.memory
	}
	return t.Memory
}

// freeTranslation is the length in bytes up to which a translation needs no reservation. Most are not longer.
const freeTranslation = 16 << 10

// reserve reserves memory for a translation of the request, which is about as long.
func (t *Template) reserve() *openai.Error {
	if t.JSON == nil || len(t.JSON.Body) <= freeTranslation {
		return nil
	}
	n := int64(len(t.JSON.Body))
	if !t.Answers.Reserve(n) {
		return &openai.Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: "gateway_overloaded", Header: http.Header{"Retry-After": {"1"}},
			Message: "The memory that this gateway has for requests is used up by other requests, and this one must be translated for its upstream. Try again in a moment."}
	}
	t.reserved += n
	return nil
}

// Sent drops what only sending needs. No attempt may follow.
func (t *Template) Sent() { t.edit, t.added = jsonspan.Edit{}, nil }

// Release gives back the memory of the last attempt's request, as far as it is not the client's.
func (t *Template) Release() {
	t.Answers.Release(t.reserved)
	t.reserved = 0
	if t.detour != nil {
		t.detour.memory.Release()
		t.detour, t.chat = nil, nil
	}
}

// A Payload is a request body that can be sent more than once.
type Payload interface {
	Len() int64
	Open() io.ReadCloser
}

// forwardedHeaders are sent to the upstream. The client's other headers are not, such as its credentials, cookies and address.
var forwardedHeaders = []string{"Accept", "Openai-Beta", "Idempotency-Key", "Traceparent", "Tracestate"}

// neutralHeaders do not influence an answer: two requests that differ only in these get the same answer.
var neutralHeaders = []string{"Accept", "Idempotency-Key", "Traceparent", "Tracestate", "X-Request-Id"}

// AnswerHeaders returns the names of the client's headers that are sent to the upstream and may influence its answer, in their
// canonical spelling.
func AnswerHeaders() []string {
	return slices.DeleteFunc(slices.Clone(forwardedHeaders), func(name string) bool { return slices.Contains(neutralHeaders, name) })
}

// RewrittenHeaders returns the headers and the host of a client's request after header_up, with its placeholders replaced, but
// without the upstream's API key and without neutralHeaders. It returns nil if there is no header_up.
func (u *Upstream) RewrittenHeaders(ctx context.Context, client http.Header) (h http.Header, host string) {
	if u.HeaderUp == nil {
		return nil, ""
	}
	h = make(http.Header, 8)
	for _, name := range forwardedHeaders {
		if v := client[name]; v != nil {
			h[name] = slices.Clone(v)
		}
	}
	req := (&http.Request{Method: http.MethodPost, URL: &url.URL{}, Header: h}).WithContext(ctx)
	u.HeaderUp(req)
	for _, name := range neutralHeaders {
		delete(h, name)
	}
	return h, req.Host
}

var (
	userAgent = []string{"caddy-llmproxy"} // instead of the client's
	// Without this header Go requests gzip, and a compressed answer cannot be searched for usage and errors.
	identity = []string{"identity"}
	// curl -d labels its body as a form, but llama.cpp and vLLM read JSON only if it is labeled as JSON.
	jsonType = []string{"application/json"}
)

// NewRequest returns the request for one attempt at a replica.
func (u *Upstream) NewRequest(ctx context.Context, t *Template, replica *replica.Replica, model string) *http.Request {
	payload, path := t.body, t.path
	if payload == nil {
		payload, path = u.payload(t, model), t.endpoint().Path
	}
	body := payload.Open()
	base := u.base(replica)
	req := (&http.Request{
		Method: http.MethodPost,
		URL:    u.url(base, path, model),
		Host:   base.Host,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        u.header(t),
		Body:          body,
		ContentLength: payload.Len(),
		// With it, a transport may repeat a request that a stale connection lost before any answer.
		GetBody: func() (io.ReadCloser, error) { return payload.Open(), nil },
	}).WithContext(ctx)
	if u.HeaderUp != nil {
		u.HeaderUp(req)
	}
	return req
}

// isOpenAI reports whether OpenAI's own models answer.
func (u *Upstream) isOpenAI() bool {
	k := u.ActualKind()
	return k.official || k == OpenAI && u.Bases[0].Hostname() == openAIHost
}

// nameLimit gives the limit of a translated request the name that the server knows. Servers that are compatible with OpenAI may know only
// max_tokens, which OpenAI's own models that reason refuse.
func (u *Upstream) nameLimit(e *jsonspan.Edit) {
	if u.isOpenAI() {
		e.Rename("max_tokens", "max_completion_tokens")
	} else {
		e.Rename("max_completion_tokens", "max_tokens")
	}
}

// url returns the URL of an endpoint at a replica.
func (u *Upstream) url(base *url.URL, path, model string) *url.URL {
	switch {
	case u.APIVersion != "":
		return u.deploymentURL(base, path, model)
	case strings.HasPrefix(path, "/api/"): // Ollama's own API
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: rootPath(base.Path) + path}
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + path}
}

func (u *Upstream) header(t *Template) http.Header {
	h := make(http.Header, 8)
	for _, name := range forwardedHeaders {
		if v := t.Header[name]; v != nil {
			h[name] = v
		}
	}
	if t.Own != nil && u.API() == dialect.Anthropic && u.Passes(t) {
		for name, v := range t.Header {
			if isMessagesHeader(name) {
				h[name] = v
			}
		}
	}
	if t.usesResponses() {
		copyAgentHeaders(h, t.Header)
	}
	h["Content-Type"] = jsonType
	if t.JSON == nil {
		h["Content-Type"] = t.Header["Content-Type"] // it has the form's boundary
	}
	h["Accept-Encoding"] = identity
	h["User-Agent"] = userAgent
	if t.id[0] == "" { // once: a transport may still be reading the headers of an earlier attempt
		t.id[0] = t.ID
	}
	h["X-Request-Id"] = t.id[:]
	u.authorize(h)
	return h
}

func (u *Upstream) authorize(h http.Header) {
	if u.API() == dialect.Anthropic {
		u.authorizeMessages(h)
		return
	}
	switch name := u.ActualKind().keyHeader; {
	case u.APIKey == "":
	case name != "":
		h[name] = []string{u.APIKey}
	default:
		h["Authorization"] = []string{"Bearer " + u.APIKey}
	}
}

// requestUsage asks for the usage of a stream, unless the request does, or the model is known to refuse that.
func (u *Upstream) requestUsage(t *Template, model string) {
	e, ask := &t.edit, usageMember
	if e.Has("stream_options") {
		ask = usageOption
	}
	if t.chat.IncludeUsage || u.ActualKind().statesUsage || t.refused(ask) || u.refuses(model, ask) {
		return
	}
	t.chat.RequestUsage(e)
	if !slices.Contains(u.Drop, "stream_options") {
		t.added = append(t.added, ask)
	}
}

// payload returns the request's body for this upstream: the client's bytes, spliced.
func (u *Upstream) payload(t *Template, model string) Payload {
	if t.JSON == nil {
		return t.Form(model)
	}
	t.added = t.added[:0]
	if t.chat == nil {
		t.chat = t.request()
	}
	e := &t.edit
	e.Reset(&t.chat.Object)
	e.SetString("model", model)
	if t.Own != nil || t.detour != nil {
		u.nameLimit(e)
	} else if t.Endpoint.IsResponses() {
		withoutOwnReasoning(e)
	}
	for _, name := range u.ActualKind().restricted {
		if !slices.Contains(u.AllowOptions, name) {
			e.Drop(name)
		}
	}
	if adapt := u.ActualKind().adapt; adapt != nil {
		adapt(e)
	}
	u.addParams(e)
	u.tellThinking(t, &t.chat.Object, model)
	if t.MaxOutput > 0 {
		clampOutput(e, t.MaxOutput)
	}
	if t.chat.Stream && t.endpoint().UsageOnRequest {
		u.requestUsage(t, model)
	}
	for _, name := range u.Drop {
		e.Drop(name)
	}
	if len(u.Drop) > 0 && !e.Has("stream") {
		e.Drop("stream_options") // OpenAI and vLLM refuse it without stream
	}
	return reqbody.NewPayload(e.Segments(), t.memory())
}

// addParams adds the configured parameters that a request lacks. A wish about thinking may be there under another name.
func (u *Upstream) addParams(e *jsonspan.Edit) {
	for _, p := range u.Params {
		if p.Name != thinking.EffortMember || !thinking.WishIn(e).Said() {
			e.Default(p.Name, p.Value)
		}
	}
}

// tellThinking makes the request for the next attempt say what it wishes in the way of this upstream's servers.
func (u *Upstream) tellThinking(t *Template, o *jsonspan.Object, model string) {
	chat := t.endpoint() == chatEndpoint
	if t.said = thinking.Unsaid; !thinking.MayWish(o) && len(u.Params) == 0 || !chat && t.endpoint().Name != "responses" {
		return
	}
	about := u.aboutThinking(t, model)
	if !chat {
		t.said = thinking.TellResponses(&t.edit, about.Takes)
		return
	}
	said, toggled := u.knob().Tell(&t.edit, about)
	if t.said = said; toggled {
		t.added = append(t.added, toggleAddition)
	}
}

// aboutThinking returns what is known of how a model thinks.
func (u *Upstream) aboutThinking(t *Template, model string) thinking.About {
	about := thinking.About{Takes: t.takes, NoToggle: t.refused(toggleAddition) || u.refuses(model, toggleAddition), Translated: t.Own != nil || t.detour != nil}
	if about.Takes == 0 {
		about.Takes = u.refusals.takes(model)
	}
	if about.Takes == 0 {
		about.Takes, about.Fixed = thinking.TakesAt(u.knob().Takes, model)
	}
	return about
}

// knob returns how the servers of this upstream are told.
func (u *Upstream) knob() *thinking.Knob {
	if k := u.ActualKind().knob; k != nil && !u.OpenAI {
		return k
	}
	return thinking.OpenAI
}

// NamesReasoning reports whether the answer for a client of OpenAI's chat API should get the name of reasoning that its clients know.
func (u *Upstream) NamesReasoning(t *Template) bool {
	return t.Own == nil && t.Endpoint == chatEndpoint && u.API() == dialect.OpenAI && u.ActualKind().saysReasoning
}

// withoutOwnReasoning removes the reasoning of other upstreams, which was encoded for the client.
func withoutOwnReasoning(e *jsonspan.Edit) {
	input, _ := e.Get("input")
	if kept := dialect.WithoutOwnReasoning(input); len(kept) != len(input) {
		e.Set("input", kept)
	}
}

// clampOutput bounds the output under every name by which the request bounds it, or else as max_tokens.
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

// A ConnectError means that no connection to the server could be made, so that nothing was sent and nothing was generated. Every
// transport must wrap such errors in this type.
type ConnectError struct{ Err error }

// Error returns the text of the cause.
func (e *ConnectError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// An EncodingError means that an answer is compressed in a way that was not requested and is not supported.
type EncodingError struct{ Coding string }

// Error implements error.
func (e *EncodingError) Error() string {
	return fmt.Sprintf("the upstream answered with Content-Encoding %q, which was not requested", e.Coding)
}

// RoundTrip sends a request through the upstream's transport. It decompresses an answer in gzip, which is not requested, but which
// proxies may send that compress everything: usage and errors must be found in it.
func (u *Upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := u.Transport.RoundTrip(req)
	if err != nil || res.Header["Content-Encoding"] == nil {
		return res, err
	}
	switch coding := strings.ToLower(res.Header.Get("Content-Encoding")); coding {
	case "", "identity":
		return res, nil
	case "gzip", "x-gzip":
		res.Body, res.ContentLength = newGunzipped(res.Body), -1
		delete(res.Header, "Content-Encoding")
		delete(res.Header, "Content-Length")
		return res, nil
	default:
		res.Body.Close()
		return nil, &EncodingError{coding}
	}
}
