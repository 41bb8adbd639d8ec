// Package exchange holds one request and its answer while they pass through the gateway: the client's request, the Writer (the
// only place that knows whether an answer has been committed), the record, the pings that keep a waiting client connected, and
// the errors of the gateway itself in the client's dialect.
//
// It does not decide where a request goes or how much it may use. It stands above relay and upstream and below the steps of the
// pipeline: access, answercache, catalog and delivery.
package exchange

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An Exchange is one request and its answer.
type Exchange struct {
	// Request is the client's request. No step replaces it.
	Request *http.Request
	// Writer sends the answer to the client.
	Writer Writer
	// Record is what is known about the exchange so far.
	Record *Record
	// Endpoint is the API endpoint, if the request generates an answer. It is nil for requests such as the list of models.
	Endpoint *openai.Endpoint
	// ReadLimits bound how long the client may take to read its answer.
	ReadLimits ReadLimits
	// API is the API that the client uses. Requests and answers of others than OpenAI's are translated.
	API dialect.API
	// Own is the endpoint that the client called if it belongs to another API than OpenAI's, else nil. Endpoint is what it becomes.
	Own *dialect.Endpoint

	refused bool                                            // the client got an error, and may still be sending its body
	values  struct{ id, target, route, attempts [1]string } // of the headers that every answer has, to save allocations
}

// A PlannedRequest is what delivery needs to know about a request.
type PlannedRequest struct {
	Plan *router.Plan
	Body *reqbody.Body
	// LocalOnly means that only local upstreams may be asked.
	LocalOnly bool
	// StoredAt is the upstream that stores what the request continues. Only that one may be asked. Empty if it continues nothing, or if the
	// upstream is not known.
	StoredAt string
	// Deadline is when the first content must have arrived. It is zero if there is no deadline.
	Deadline time.Time
	// Shared means that the answer is recorded for other clients. It must be in OpenAI's format, and keeps the usage event of a stream
	// even if only the gateway asked for it.
	Shared bool
	// Budget pays for attempts; nil if no budget applies to the request.
	Budget Budget
}

// A Budget pays for attempts.
type Budget interface {
	// Pay reserves what the next attempt is likely to cost in US dollars, or returns why that is not covered. Least is what an answer of
	// moderate length costs.
	Pay(ctx context.Context, least, likely float64) *openai.Error
}

// New returns a new Exchange and starts its record. The endpoint is the one that the client called, or nil. New sets X-Request-Id, so that every answer has it.
func New(w http.ResponseWriter, r *http.Request, api dialect.API, endpoint *openai.Endpoint, rec *Record) *Exchange {
	x := &Exchange{Request: r, Record: rec, API: api, Endpoint: endpoint}
	rec.Started = time.Now()
	rec.ID = requestID(r.Header.Get("X-Request-Id"))
	if endpoint != nil {
		rec.Endpoint = endpoint.Name
		if endpoint.Foreign {
			x.Own = dialect.EndpointOf(endpoint)
			x.Endpoint = x.Own.Becomes
		}
	}
	x.Writer.init(w, dialectOf(api, x.Endpoint, &rec.ID), rec)
	setHeader(w.Header(), "X-Request-Id", &x.values.id, rec.ID)
	if api == dialect.Anthropic {
		w.Header()["Request-Id"] = x.values.id[:]
	}
	return x
}

// setHeader sets a header whose value is stored in room, which saves an allocation.
func setHeader(h http.Header, name string, room *[1]string, value string) {
	room[0] = value
	h[name] = room[:]
}

// SetAnswerHeaders sets the headers in h that say where the answer comes from. Attempts is the number of attempts and, if all of
// them failed, how they ended.
func (x *Exchange) SetAnswerHeaders(h http.Header, attempts string) {
	if x.Record.Target != "" {
		setHeader(h, "X-Llm-Target", &x.values.target, x.Record.Target)
	}
	setHeader(h, "X-Llm-Route", &x.values.route, x.Record.Route)
	setHeader(h, "X-Llm-Attempts", &x.values.attempts, attempts)
	if x.Record.Queue > 0 {
		h["X-Llm-Queue-Ms"] = []string{strconv.FormatInt(x.Record.Queue.Milliseconds(), 10)}
	}
}

// OpenAIErrorEvent returns the event, or the events, that end a stream of the endpoint with an error in OpenAI's format.
func (x *Exchange) OpenAIErrorEvent(e *openai.Error, state openai.ResponseState) []byte {
	state.ID = cmp.Or(state.ID, "resp_"+x.Record.ID)
	return openAI{x.Endpoint}.AppendErrorEvent(nil, e, state)
}

// SendText sends a complete answer of the gateway itself that is not JSON.
func (x *Exchange) SendText(text string) {
	x.Record.Status = http.StatusOK
	x.Record.Bytes += x.Writer.sendText(x.Request.Context(), text)
}

// SendJSON sends a complete JSON answer of the gateway itself.
func (x *Exchange) SendJSON(body []byte) {
	x.Record.Status = http.StatusOK
	x.Record.Bytes += x.Writer.sendJSON(x.Request.Context(), http.StatusOK, body)
}

// StatusClientClosed is nginx's status for a client that left before the answer began. It appears in logs only.
const StatusClientClosed = 499

// ErrClientClosed is returned in place of an answer if the client has left.
var ErrClientClosed = &openai.Error{Status: StatusClientClosed, Message: "The client closed the request."}

// Fail sends an error to the client and records it. If the client has left, it records only that.
func (x *Exchange) Fail(e *openai.Error) {
	if e == ErrClientClosed || x.Request.Context().Err() != nil && !x.Writer.unread.Load() {
		x.Record.Verdict, x.Record.Status = router.ClientClosed, StatusClientClosed
		x.Writer.abandon(x.Request.Context())
		return
	}
	rec := x.Record
	rec.Err, rec.Status = e, e.Status
	if rec.Verdict == router.OK && e.Status < http.StatusInternalServerError { // the gateway itself refused the request
		rec.Verdict = router.ClientError
	}
	sent, streaming := x.Writer.sendError(x.Request.Context(), e)
	rec.Bytes += sent
	x.refused = !streaming && lingers(e.Status)
	if streaming {
		rec.Status = http.StatusOK
	}
}

// BreakOff aborts the connection if the client's stream ended with an error event that the client may not look for: who reads the simple
// chat line by line would take the end of the stream for the end of the answer. It panics with http.ErrAbortHandler then.
func (x *Exchange) BreakOff() {
	if x.API == dialect.Simple && x.Writer.hasFailed() {
		panic(http.ErrAbortHandler)
	}
}

const idCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// requestID returns the ID that the client sent if it is safe in headers and logs, else a new one.
func requestID(sent string) string {
	if sent != "" && len(sent) <= 64 && strings.Trim(sent, idCharacters) == "" {
		return sent
	}
	b := make([]byte, 0, 36)
	b = append(b, "req_"...)
	b = strconv.AppendUint(b, rand.Uint64()|1<<63, 16)
	b = strconv.AppendUint(b, rand.Uint64()|1<<63, 16)
	return string(b)
}

// WantsPosition reports whether the client wants to be told its place in the queue by comments in its stream.
func (x *Exchange) WantsPosition() bool {
	want := x.Request.Header["X-Llm-Queue"]
	return len(want) > 0 && want[0] == "comments" && x.Record.Stream && x.Endpoint.Streams() && x.Writer.dialect.Ping() != nil
}

// UntilPing returns how long the client can wait for its answer, or for more of it, before it should be pinged: zero if a ping is due,
// and forever if the client does not expect a stream of events, or one without pings.
func (x *Exchange) UntilPing(to Client, now time.Time) time.Duration {
	if !x.Record.Stream || !x.Endpoint.Streams() || x.Writer.dialect.Ping() == nil {
		return math.MaxInt64
	}
	last := to.LastSent()
	if last.IsZero() {
		last = x.Record.Started
	}
	return max(last.Add(PingEvery).Sub(now), 0)
}
