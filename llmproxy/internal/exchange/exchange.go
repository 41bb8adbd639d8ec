// Package exchange is one request and its answer on the way through the gateway. It owns the client's request, the Writer
// (the only place that knows whether anything was committed to the client), the record, the signs of life that a waiting
// client gets, and the errors that the gateway itself tells, in the client's dialect.
//
// It decides nothing about where a request goes or what it may use. It stands above relay and upstream, and below the steps
// of the pipeline: access, answercache, catalog and delivery.
package exchange

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An Exchange is one request and its answer.
type Exchange struct {
	// Request is the client's. No step replaces it.
	Request *http.Request
	// Writer is the client's end of the answer.
	Writer Writer
	// Record is what is known of the exchange so far.
	Record *Record
	// Endpoint is the API endpoint that generates; nil for lists and the like.
	Endpoint *openai.Endpoint

	values struct{ id, target, route, attempts [1]string } // room for the headers that every answer has
}

// An Ask is what a plan's targets are asked for: the request as it is delivered.
type Ask struct {
	Plan *router.Plan
	Body *reqbody.Body
	// LocalOnly means that the request must not leave for an upstream that is not local.
	LocalOnly bool
	// Deadline is when the first content must be there; zero for no bound.
	Deadline time.Time
	// KeepUsage keeps the stream event with the usage, which the gateway asked for on its own account.
	KeepUsage bool
}

// New opens an exchange and its record. The client learns the request's id whatever happens.
func New(w http.ResponseWriter, r *http.Request, endpoint *openai.Endpoint, rec *Record) *Exchange {
	x := &Exchange{Request: r, Record: rec, Endpoint: endpoint}
	rec.Started = time.Now()
	rec.ID = requestID(r.Header.Get("X-Request-Id"))
	if endpoint != nil {
		rec.Endpoint = endpoint.Name
	}
	x.Writer.init(w, dialectOf(endpoint))
	set(w.Header(), "X-Request-Id", &x.values.id, rec.ID)
	return x
}

// set sets a header whose value lies in room, which spares an allocation.
func set(h http.Header, name string, room *[1]string, value string) {
	room[0] = value
	h[name] = room[:]
}

// SetAnswerHeaders sets the headers in h that say where the answer comes from. Attempts is the number of attempts and, if all of
// them failed, how they ended.
func (x *Exchange) SetAnswerHeaders(h http.Header, attempts string) {
	if x.Record.Target != "" {
		set(h, "X-Llm-Target", &x.values.target, x.Record.Target)
	}
	set(h, "X-Llm-Route", &x.values.route, x.Record.Route)
	set(h, "X-Llm-Attempts", &x.values.attempts, attempts)
	if x.Record.Queue > 0 {
		h["X-Llm-Queue-Ms"] = []string{strconv.FormatInt(x.Record.Queue.Milliseconds(), 10)}
	}
}

// StatusClientClosed is nginx's status for a client that left before the answer. Only the log shows it.
const StatusClientClosed = 499

// Fail answers with an error and records it. A client that has left is recorded as such.
func (x *Exchange) Fail(e *openai.Error) {
	if e == ClientClosed || x.Request.Context().Err() != nil {
		x.CloseByClient()
		return
	}
	rec := x.Record
	rec.Err, rec.Status, rec.Verdict = e, e.Status, verdictOf(rec.Verdict, e.Status)
	sent, streaming := x.Writer.sendError(x.Request.Context(), e)
	rec.Bytes += sent
	if streaming {
		rec.Status = http.StatusOK
	}
}

// verdictOf is the verdict of a request that the gateway itself refused: no attempt ended it.
func verdictOf(v router.Verdict, status int) router.Verdict {
	if v == router.OK && status < http.StatusInternalServerError {
		return router.ClientError
	}
	return v
}

// ClientClosed is what delivery returns where nobody waits for the answer any more.
var ClientClosed = &openai.Error{Status: StatusClientClosed, Message: "The client closed the request."}

// CloseByClient records that the client left before its answer was complete.
func (x *Exchange) CloseByClient() {
	x.Record.Verdict, x.Record.Status = router.ClientClosed, StatusClientClosed
	x.Writer.abandon(x.Request.Context())
}

// Answer sends a complete JSON answer of the gateway's own.
func (x *Exchange) Answer(body []byte) {
	x.Record.Status = http.StatusOK
	x.Record.Bytes += x.Writer.sendJSON(x.Request.Context(), http.StatusOK, body)
}

// requestID takes the client's own id if it is harmless in headers and logs, else makes one.
func requestID(given string) string {
	if given != "" && len(given) <= 64 && strings.Trim(given, idCharacters) == "" {
		return given
	}
	b := make([]byte, 0, 36)
	b = append(b, "req_"...)
	b = strconv.AppendUint(b, rand.Uint64()|1<<63, 16)
	b = strconv.AppendUint(b, rand.Uint64()|1<<63, 16)
	return string(b)
}

const idCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// UntilPing returns how long the client can wait before it should be pinged: zero if a ping is due, and forever if the client
// does not expect a stream of events.
func (x *Exchange) UntilPing(to Client, now time.Time) time.Duration {
	if !x.Record.Stream || !x.Endpoint.Streams() {
		return math.MaxInt64
	}
	last := to.LastPing()
	if last.IsZero() {
		last = x.Record.Started
	}
	return max(last.Add(PingEvery).Sub(now), 0)
}
