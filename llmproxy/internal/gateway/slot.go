package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// slot takes a slot at one of the turn's candidates, and waits in line for it where none is free. False means that the client
// left meanwhile, the process is about to end, or that no place or no slot was there in time: then the pool is left.
func (d *delivery) slot(turn router.Turn) (router.Candidate, bool) {
	if candidate, ok := d.walk.Take(turn); ok {
		return candidate, true
	}
	begun := time.Now()
	ticket, ok := d.walk.Queue(turn)
	if !ok {
		d.full(turn, 0)
		return router.Candidate{}, false
	}
	defer func() { d.rec.Queue += time.Since(begun) }()
	defer ticket.Leave()
	index, came, err := wait(d.call, ticket.Granted(), d.atMost(ticket.Wait))
	switch {
	case came && index >= 0:
		return d.walk.Took(ticket, index), true
	case came: // its place was given to somebody with a higher priority
		d.full(turn, 0)
	case err == nil:
		d.full(turn, time.Since(begun))
	}
	return router.Candidate{}, false
}

// atMost bounds a wait by the request's deadline.
func (c *call) atMost(wait time.Duration) time.Duration {
	if c.deadline.IsZero() {
		return wait
	}
	return min(wait, time.Until(c.deadline))
}

// full notes that a pool had no slot in time. No upstream has seen the request.
func (d *delivery) full(turn router.Turn, waited time.Duration) {
	d.walk.Skip(turn)
	d.note(&failure{
		Finding: upstream.Finding{Verdict: router.Busy, RetryAfter: comeBack(waited)},
		spill:   true, waited: waited,
	})
}

// The shortest and the longest time after which somebody who found no place is asked to come back: SDKs take no more than a
// minute for an answer to their question.
const (
	comeBackSoonest = time.Second
	comeBackLatest  = 30 * time.Second
)

// comeBack is a part of the wait that was in vain: within it, some of those in front will be done.
func comeBack(waited time.Duration) time.Duration {
	return min(max(waited/4, comeBackSoonest), comeBackLatest)
}

// tellFull is what a client is told who found no slot.
func (f *failure) tellFull() *wire.Error {
	message := "All slots are taken and nobody else may wait. Try again in a moment."
	if f.waited > 0 {
		message = "No slot became free within " + f.waited.Round(time.Millisecond).String() + ". Try again later."
	}
	return &wire.Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "queue_full", Message: message}
}

// announceQueue tells how long the request waited for a slot, if it did.
func (c *call) announceQueue() {
	if c.rec.Queue > 0 {
		c.w.Header()["X-Llm-Queue-Ms"] = []string{strconv.FormatInt(c.rec.Queue.Milliseconds(), 10)}
	}
}
