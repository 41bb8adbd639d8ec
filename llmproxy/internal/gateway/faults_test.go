package gateway

import (
	"net/http"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// What a sound upstream says, to the byte.
const (
	soundStream = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"sound"},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	soundWhole = `{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"sound"},"finish_reason":"stop"}]}`
)

func sound(stream bool) fakellm.Answer {
	if stream {
		return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}}, []byte(soundStream))
	}
	return fakellm.Raw(http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(soundWhole))
}

func soundBody(stream bool) string {
	if stream {
		return soundStream
	}
	return soundWhole
}

// A fault is a way to fail before anything was committed.
type fault struct {
	name    string
	answer  fakellm.Answer
	kind    *upstream.Kind
	down    bool
	verdict router.Verdict
	only    string // "stream" or "whole", where it exists in one of them only
	// As the last target: how often it is asked, and what the client is told.
	tries  int
	status int
	told   string // the error's members
	// toldStream is told to the client of a stream instead, if it is not empty.
	toldStream string
}

func told(message, typ, param, code string) string {
	orNull := func(s string) string {
		if s == "" {
			return "null"
		}
		return `"` + s + `"`
	}
	return `{"error":{"message":"` + message + `","type":"` + typ + `","param":` + orNull(param) + `,"code":` + orNull(code) + `}}`
}

// What the client is told about a target that failed. A reason begins with a colon.
func toldNotUp(reason string) string {
	return told(`The upstream \"a\" `+reason+`. Try again in a moment.`, "server_error", "", "no_upstream_available")
}

func toldBroken(reason string) string {
	return told(`The upstream \"a\" failed before it answered`+reason+`.`, "server_error", "", "upstream_error")
}

var toldSlow = told(`The upstream \"a\" did not begin to answer in time.`, "server_error", "", "upstream_timeout")

const (
	endedEarly = ": its answer ended too early"
	noJSON     = ": its answer is not valid JSON"
)

func toldUnfit(why string) string {
	return told(`The upstream \"a\" `+why, "server_error", "", "upstream_error")
}

var faults = []fault{
	{name: "refused", down: true, verdict: router.Unreachable, tries: 3, status: 503, told: toldNotUp("cannot be reached: connection refused")},
	{name: "loading", kind: upstream.OpenAI, answer: fakellm.Raw(503, http.Header{"Content-Type": {"application/json"}}, []byte(`{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`)), verdict: router.Unreachable, tries: 3, status: 503, told: toldNotUp(`is still loading its model: status 503, \"Loading model\"`)},
	{name: "busy", answer: fakellm.Busy(), verdict: router.Overloaded, tries: 3, status: 503, told: toldNotUp(`is overloaded: status 503, \"The engine is currently overloaded, please try again later\"`)},
	{name: "rate limited for long", answer: fakellm.RateLimited().With("Retry-After", "60"), verdict: router.Overloaded, tries: 1, status: 429, told: told(`The upstream \"a\" has reached its limit: status 429, \"Rate limit reached for requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 1s\". Try again later.`, "rate_limit_error", "", "rate_limit_exceeded")},
	{name: "too long", answer: raw(400, told("too long", "invalid_request_error", "messages", "context_length_exceeded")), verdict: router.Unsupported, tries: 1, status: 400, told: told("too long", "invalid_request_error", "messages", "context_length_exceeded")},
	{name: "too much output, twice", answer: raw(400, told("max_tokens: 9000 > 8192, which is the maximum allowed", "invalid_request_error", "", "")), verdict: router.Adjustable, tries: 2, status: 400, told: told("max_tokens: 9000 > 8192, which is the maximum allowed", "invalid_request_error", "", "")},
	{name: "internal error", answer: fakellm.InternalError(), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(`: status 500, \"The server had an error while processing your request. Sorry about that!\"`)},
	{name: "error inside a 200", answer: fakellm.ErrorInside200(), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(`: \"Provider returned error\"`)},
	{name: "cut at once", answer: fakellm.Text("a").CutAfter(0), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(noJSON), toldStream: toldBroken(endedEarly)},
	{name: "cut after the role", answer: fakellm.Text("a").RoleFirst().CutAfter(0), only: "stream", verdict: router.Failed, tries: 3, status: 502, told: toldBroken(endedEarly)},
	{name: "dropped in the first event", answer: fakellm.Text("a").DropAfter(0), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(endedEarly)},
	{name: "reset", answer: fakellm.Text("a").ResetAfter(0), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(": it reset the connection")},
	{name: "no JSON", answer: fakellm.Garbage(), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(`: its answer has the content type \"text/html\"`), toldStream: toldBroken(noJSON)},
	{name: "half an event", answer: fakellm.RawEvents(`data: {"choices":[{"index":0,"delta":{"content":"one"}`, "data: [DONE]"), only: "stream", verdict: router.Failed, tries: 3, status: 502, told: toldBroken(noJSON)},
	{name: "a page in an event", answer: fakellm.RawEvents("data: <html>Bad Gateway</html>"), only: "stream", verdict: router.Failed, tries: 3, status: 502, told: toldBroken(noJSON)},
	{name: "nothing to read", answer: fakellm.Status(204), verdict: router.Failed, tries: 3, status: 502, told: toldBroken(": it closed the connection")},
	{name: "a coding that nobody asked for", answer: fakellm.Raw(200, http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"br"}}, []byte("x")), verdict: router.Unsupported, tries: 1, status: 502,
		told: toldUnfit(`answered with Content-Encoding \"br\", which this gateway neither requests nor supports. The operator must turn that off.`)},
	{name: "a whole that no stream can be made of", answer: raw(200, `{"choices":[]}`), only: "stream", verdict: router.Unsupported, tries: 1, status: 502,
		told: toldUnfit(`did not answer with a stream, and its answer cannot be converted into one. Send the request without \"stream\".`)},
	{name: "a stream that no whole can be made of", answer: fakellm.Raw(200, http.Header{"Content-Type": {"text/event-stream"}}, []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"a\":1}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"a\":2},\"finish_reason\":\"stop\"}]}\n\n")), only: "whole", verdict: router.Unsupported, tries: 1, status: 502,
		told: toldUnfit(`answered with a stream that cannot be converted into the answer that was asked for. Send the request with \"stream\": true.`)},
	{name: "silence", answer: fakellm.Text("a").StallAfter(0), verdict: router.Timeout, tries: 1, status: 504, told: toldSlow},
	{name: "pings and nothing else", answer: fakellm.Text("a").StallAfter(0).Pings(20 * time.Millisecond), only: "stream", verdict: router.Timeout, tries: 1, status: 504, told: toldSlow},
}

func raw(status int, body string) fakellm.Answer {
	return fakellm.Raw(status, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}
