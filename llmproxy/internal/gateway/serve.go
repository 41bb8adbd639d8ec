package gateway

import (
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
)

// Serve answers a request whose path matched. The way of a request that generates is
//
//	authenticate → read body → reserve → plan → (cache: look up | follow | lead) → deliver (attempt → commit → relay)* → settle and record
//
// The record holds all that is known of it when Serve returns or panics: with http.ErrAbortHandler, when an answer that is
// no stream of events broke off after its first byte.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, task Task, rec *exchange.Record) {
	x := exchange.New(w, r, task.endpoint, rec)
	var held held
	defer g.finish(x, &held)
	if err := g.serve(x, task, &held); err != nil {
		x.Fail(err)
	}
}

// serve answers, or returns the error that the client is to be told.
func (g *Gateway) serve(x *exchange.Exchange, task Task, held *held) *openai.Error {
	key, err := g.Access.Authenticate(x.Request, x.Writer.Header())
	if err != nil {
		return err
	}
	x.Record.Caller = access.Caller(key)
	switch {
	case task.endpoint != nil:
		return g.generate(x, key, held)
	case task.quota:
		x.Record.Endpoint = "usage"
		return g.showQuota(x, key)
	case task.models:
		x.Record.Endpoint = "models"
		return g.listModels(x, key, task.modelID)
	}
	g.Access.ShowQuota(x.Request, x.Writer.Header(), key)
	return exchange.NotServed(x.Request.URL.Path, task.closed)
}

// generate has a request answered by an upstream or from the cache.
func (g *Gateway) generate(x *exchange.Exchange, key *keys.Key, held *held) *openai.Error {
	rec, header := x.Record, x.Writer.Header()
	body, err := g.readBody(x, held)
	if err != nil {
		g.Access.ShowQuota(x.Request, header, key)
		return err
	}
	local := key != nil && key.LocalOnly
	if held.reservation, err = g.Access.Reserve(x.Request, header, key, rec.Model, &demand{g, x, body, local}); err != nil {
		return err
	}
	plan, local, err := g.plan(x, body, local)
	if err != nil {
		return err
	}
	ask := &exchange.Ask{Plan: plan, Body: body, LocalOnly: local}
	if g.Deadline > 0 {
		ask.Deadline = rec.Started.Add(g.Deadline)
	}
	return g.deliver(x.Request.Context(), x, ask, &x.Writer)
}

// held is what a request holds until it is over.
type held struct {
	body        reqbody.Body
	reservation *access.Reservation
}

// finish settles, closes the record and lets go of what the request held. It runs exactly once, on panics too.
func (g *Gateway) finish(x *exchange.Exchange, held *held) {
	rec := x.Record
	x.Writer.Close()
	rec.Duration = time.Since(rec.Started)
	if g.LogPrompts > 0 && rec.JSON != nil {
		rec.Prompt = excerpt(rec.JSON.Signals().Content(), g.LogPrompts)
	}
	g.Access.Settle(held.reservation, rec)
	if g.Account != nil {
		g.Account(rec)
	}
	held.body.Close()
}

// readBody reads the request as far as the gateway must know it. Everything else of it stays the bytes that came.
func (g *Gateway) readBody(x *exchange.Exchange, held *held) (*reqbody.Body, *openai.Error) {
	rec, body := x.Record, &held.body
	if x.Request.Method != http.MethodPost {
		return nil, exchange.WrongMethod(x.Request, http.MethodPost)
	}
	// Where there is an access log, {llm.content} and its like may be asked for when the request is long over.
	err := body.Read(x.Writer.Unwrap(), x.Request, x.Endpoint, reqbody.Reader{Limit: g.MaxBody, Keep: rec.Logged})
	rec.Asked = exchange.Asked{Model: body.Model, Stream: body.Stream, Received: body.Size, Reading: body.Took, JSON: body.JSON()}
	return body, err
}

// showQuota answers GET /llm/usage.
func (g *Gateway) showQuota(x *exchange.Exchange, key *keys.Key) *openai.Error {
	if err := onlyGet(x.Request); err != nil {
		return err
	}
	answer, err := g.Access.Quota(x.Request, x.Writer.Header(), key)
	if err != nil {
		return err
	}
	x.Answer(answer)
	return nil
}

// listModels answers GET /v1/models and /v1/models/{id}.
func (g *Gateway) listModels(x *exchange.Exchange, key *keys.Key, id string) *openai.Error {
	g.Access.ShowQuota(x.Request, x.Writer.Header(), key)
	if err := onlyGet(x.Request); err != nil {
		return err
	}
	x.Record.Model = id
	answer, err := g.catalog.ListModels(x.Request.Context(), id, key != nil && key.LocalOnly, key.May)
	if err != nil {
		return err
	}
	x.Answer(answer)
	return nil
}

func onlyGet(r *http.Request) *openai.Error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return exchange.WrongMethod(r, "GET, HEAD")
	}
	return nil
}

// excerpt is the first n characters of a text, in one line.
func excerpt(text string, n int) string {
	var b strings.Builder
	for _, r := range text {
		if n == 0 {
			break
		}
		if n--; unicode.IsControl(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
