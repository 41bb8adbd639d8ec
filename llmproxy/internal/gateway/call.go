package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A call is one request on its way.
type call struct {
	g         *Gateway
	w         http.ResponseWriter
	r         *http.Request
	task      Task
	rec       *Record
	head      wire.Head
	memory    wire.Buffer    // of the body
	members   [8]wire.Member // room for the head's, as many as an SDK sends
	said      saidValues     // to the client
	key       *keys.Key      // who calls; nil for anybody
	meter     *meter         // what it took of its limits; nil if none apply
	form      *form          // nil for JSON
	up        upstream.Call
	hurried   bool // it waits for no second try at a target
	localOnly bool // it must not leave for an upstream that is not local
	committed bool // the client has got a part of an answer
	pulse     relay.Heartbeat
	deadline  time.Time       // when the first content must be there; zero for no bound
	detached  context.Context // of a request that leads a flight; ends when nobody wants its answer any more
	tee       *tee            // where the answer is written down; nil for nowhere
}

// begin opens the record. The request's id is known to the client whatever happens.
func (g *Gateway) begin(w http.ResponseWriter, r *http.Request, task Task, rec *Record) *call {
	rec.Started = time.Now()
	rec.ID = requestID(r.Header.Get("X-Request-Id"))
	if task.endpoint != nil {
		rec.Endpoint = task.endpoint.Name
	} else if task.models {
		rec.Endpoint = "models"
	} else if task.usage {
		rec.Endpoint = "usage"
	}
	c := &call{g: g, w: w, r: r, task: task, rec: rec}
	c.say(&c.said.id, "X-Request-Id", rec.ID)
	c.head.Members = c.members[:0]
	if g.Deadline > 0 {
		c.deadline = rec.Started.Add(g.Deadline)
	}
	return c
}

// saidValues is room for the values of the headers that every answer has.
type saidValues struct{ id, target, route, attempts [1]string }

// say sets a header whose value lies in the call.
func (c *call) say(room *[1]string, name, value string) {
	room[0] = value
	c.w.Header()[name] = room[:]
}

// account closes the record and lets go of what the request held. It runs exactly once, on panics too.
func (c *call) account() {
	c.rec.Duration = time.Since(c.rec.Started)
	if c.g.LogPrompts > 0 && c.up.Head != nil {
		c.rec.Prompt = excerpt(c.head.Signals().Content(), c.g.LogPrompts)
	}
	if c.form != nil {
		c.form.close()
	}
	c.settle()
	if c.g.Account != nil {
		c.g.Account(c.rec)
	}
	c.letGo()
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

// fail answers with an error, unless the client left.
func (c *call) fail(e *wire.Error) {
	if c.r.Context().Err() != nil {
		c.gone()
		return
	}
	c.rec.Err, c.rec.Status, c.rec.Verdict = e, e.Status, verdictFor(c.rec.Verdict, e.Status)
	if c.pulse.Stop() {
		c.rec.Status = http.StatusOK
		c.rec.Bytes += c.pulse.Fail(c.w, c.task.endpoint.Framing, e)
		return
	}
	body := e.AppendJSON(nil)
	h := c.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if e.Status == http.StatusServiceUnavailable && h["Retry-After"] == nil {
		h["Retry-After"] = soon
	}
	c.w.WriteHeader(e.Status)
	n, _ := c.w.Write(body) // the client may be gone; the record says what it was to be told
	c.rec.Bytes += int64(n)
}

// soon is when to come again where nobody said: a server that loads or was restarted may be there by then.
var soon = []string{"1"}

// verdictFor is the verdict of a request that no attempt ended: the gateway itself refused it.
func verdictFor(v router.Verdict, status int) router.Verdict {
	if v == router.OK && status < 500 {
		return router.Caller
	}
	return v
}

// gone records a client that left before it got anything. The status is for the access log; nobody reads it.
func (c *call) gone() {
	c.rec.Verdict, c.rec.Status = router.Gone, StatusClientGone
	if !c.pulse.Stop() && !c.committed {
		c.w.WriteHeader(StatusClientGone)
	}
}

// StatusClientGone is nginx's status for a client that left before the answer.
const StatusClientGone = 499

// failedBody turns an error of reading the request's body into what the client is told.
func (c *call) failedBody(err error) *wire.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return c.tooLarge(tooLarge.Limit)
	}
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) { // its frame announces more than the limit
		return c.tooLarge(c.g.MaxBody)
	}
	return badRequest("The request's body could not be read to its end: " + err.Error() + ".")
}
