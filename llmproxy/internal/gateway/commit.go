package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

func (a *attempt) expect() relay.Expect {
	c := a.c
	return relay.Expect{
		Endpoint:  c.task.endpoint,
		Stream:    c.rec.Stream,
		HideUsage: c.up.Head != nil && !c.head.IncludeUsage && c.tee == nil,
		Choices:   c.head.Choices(),
		Base64:    c.task.endpoint.Vectors && c.head.WantsBase64(),
		Count:     c.rec.Logged,
		Pulse:     &a.c.pulse,
		Witness:   a,
	}
}

// Progress implements relay.Witness.
func (a *attempt) Progress(content bool) {
	a.patience.watch.Reset(a.idle)
	if content {
		a.candidate.Replica.Stir()
	}
}

// commit sends the answer. From here on a failure can only be told, not mended.
func (a *attempt) commit(answer relay.Answer) {
	c := a.c
	a.patience.begin(a.idle)
	a.candidate.Replica.Stir()
	c.committed = true
	c.rec.FirstContent = time.Since(c.rec.Started)
	c.rec.Status, c.rec.Verdict = http.StatusOK, router.OK
	c.announce(strconv.Itoa(len(c.rec.Attempts) + 1))
	if a.compare(answer.Meter()); c.rec.Warning != "" {
		c.w.Header()["X-Llm-Warning"] = []string{c.rec.Warning}
	}
	if c.rec.Stream && c.g.Streaming != nil {
		c.g.Streaming(1)
		defer c.g.Streaming(-1)
	}
	err := answer.Send(c.w)
	var end *wire.Error
	if err != nil {
		end = a.brokenOff(err)
	}
	told := end == nil || answer.End(c.w, end)
	m := answer.Meter()
	c.rec.Events, c.rec.Bytes, c.rec.Chars = m.Events, m.Bytes, m.Said.Chars
	c.use(m)
	if c.rec.Stream {
		a.compare(m)
	}
	a.cost()
	if !told {
		// Half a body with a proper end would pass for a whole one.
		panic(http.ErrAbortHandler)
	}
}

// brokenOff judges a failure after the first byte and gives what the client is to be told; nil if it is gone.
func (a *attempt) brokenOff(err error) *wire.Error {
	c := a.c
	var client *relay.ClientError
	if errors.As(err, &client) || c.r.Context().Err() != nil {
		c.gone()
		return nil
	}
	c.rec.Verdict = a.verdict(err)
	var event *relay.EventError
	name := "The upstream \"" + a.u.Name + "\""
	switch {
	case errors.As(err, &event):
		message, kind, code, param, _ := wire.ErrorOf(errorBody(event.Value))
		c.rec.Err = &wire.Error{Status: http.StatusBadGateway, Type: kind, Code: code, Param: param, Message: message}
		if kind == "" {
			c.rec.Err.Type = serverError
		}
	case errors.Is(a.life.cause(), errDraining):
		c.rec.Err = shuttingDown()
	case c.rec.Verdict == router.Slow:
		c.rec.Err = upstreamTimeout(name + " went silent; the answer is not complete.")
	default:
		c.rec.Err = upstreamError(name + " broke off; the answer is not complete.")
	}
	if c.g.Observe != nil {
		done := a.done(c.rec.Verdict)
		done.Err = a.because(err)
		c.g.Observe(c.rec, done)
	}
	return c.rec.Err
}
