package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
)

// Serve answers a request whose path matched. A request to generate goes through these steps:
//
//	authenticate → admit → read body → reserve → plan → (cache: look up | follow | lead) → deliver (attempt → commit → relay)* → settle and record
//
// The record is complete when Serve returns. That also holds if it panics with http.ErrAbortHandler, because an answer broke off after the
// commit and no event can say so.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, task Task, rec *exchange.Record) {
	x := exchange.New(w, r, task.apiOf(r), task.endpoint, rec)
	var held held
	defer x.Linger()
	defer g.finish(x, &held)
	if err := g.serve(x, task, &held); err != nil {
		x.Fail(err)
	}
	x.BreakOff()
}

// serve answers the request, or returns the error for the client.
func (g *Gateway) serve(x *exchange.Exchange, task Task, held *held) *openai.Error {
	if task.upgrade {
		return exchange.NoWebSocket(x.Request)
	}
	if task.info != nil && task.info.public && !access.HasKey(x.Request.Header) {
		return g.inform(x, nil, task.info)
	}
	key, err := g.Access.Authenticate(x.Request, x.Writer.Header())
	x.Record.Caller = access.Caller(key)
	x.Record.KeyInQuery = g.Access.KeyInQuery(x.Request)
	if err != nil {
		return err
	}
	switch {
	case task.endpoint != nil && task.endpoint.CountsOnly:
		return g.countTokens(x, key, held)
	case task.endpoint != nil:
		return g.generate(x, key, held)
	case task.info != nil:
		return g.inform(x, key, task.info)
	case task.quota:
		x.Record.Endpoint = "usage"
		return g.showQuota(x, key)
	case task.status:
		x.Record.Endpoint = "status"
		return g.showStatus(x, key)
	case task.models:
		x.Record.Endpoint = "models"
		return g.listModels(x, key, task.modelID)
	}
	g.Access.SetQuotaHeaders(x.Request, x.Writer.Header(), key)
	return exchange.NotServed(x.Request.URL.Path, task.closed)
}

// admit reserves what the body does not influence, and then reads the body.
func (g *Gateway) admit(x *exchange.Exchange, key *keys.Key, held *held) (body *reqbody.Body, err *openai.Error) {
	header := x.Writer.Header()
	if held.reservation, err = g.Access.Admit(x.Request, header, key); err != nil {
		return nil, err
	}
	if body, err = g.readBody(x, held); err == nil {
		err = access.CheckSelector(key, x.Record.JSON)
	}
	if err != nil {
		g.Access.Refund(held.reservation)
		g.Access.SetQuotaHeaders(x.Request, header, key)
	}
	return body, err
}

// generate answers a request to generate, from an upstream or from the cache.
func (g *Gateway) generate(x *exchange.Exchange, key *keys.Key, held *held) *openai.Error {
	rec, header := x.Record, x.Writer.Header()
	body, err := g.admit(x, key, held)
	if err != nil {
		return err
	}
	if x.API == dialect.Ollama {
		rec.Model = g.catalog.TaggedName(x.Request.Context(), rec.Model, key.May)
	}
	local := key != nil && key.LocalOnly
	if held.reservation, err = g.Access.Reserve(held.reservation, x.Request, header, key, rec.Model, &demand{g, x, body}); err != nil {
		return err
	}
	plan, local, err := g.plan(x, body, local)
	if err != nil {
		return err
	}
	if unload, only := loadsOnly(x, body); only {
		g.Access.Refund(held.reservation)
		return g.loadModel(x, plan, local, body.Original(), unload)
	}
	planned := &exchange.PlannedRequest{Plan: plan, Body: body, LocalOnly: local}
	if planned.StoredAt, err = g.Stored.find(x, plan, local); err != nil {
		g.Access.Refund(held.reservation)
		return err
	}
	if held.reservation.HasBudget() {
		planned.Budget = held.reservation
	}
	if g.Deadline > 0 {
		planned.Deadline = rec.Started.Add(g.Deadline)
	}
	err = g.deliverTo(x, planned, held)
	g.Stored.keep(rec)
	return err
}

// deliverTo delivers the answer to the client, translated to the API that it uses.
func (g *Gateway) deliverTo(x *exchange.Exchange, planned *exchange.PlannedRequest, held *held) *openai.Error {
	if x.Own == nil {
		return g.deliver(x.Request.Context(), x, planned, &x.Writer)
	}
	client := x.Translated(planned.Body.Original().Model, held.tools)
	if err := g.deliver(x.Request.Context(), x, planned, client); err != nil {
		return err
	}
	return client.Finish()
}

// held is what a request holds until it is over.
type held struct {
	body        reqbody.Body
	tools       *dialect.ToolNames // if the request was translated
	reservation *access.Reservation
}

// finish settles the reservation, completes the record and releases what the request held. It runs exactly once, even after a panic.
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

// readBody reads the body and records what it says.
func (g *Gateway) readBody(x *exchange.Exchange, held *held) (*reqbody.Body, *openai.Error) {
	rec, body := x.Record, &held.body
	if x.Request.Method != http.MethodPost {
		return nil, exchange.WrongMethod(x.Request, http.MethodPost)
	}
	// The access log may contain {llm.content}, and the prompt. It is written after the request has ended.
	o := reqbody.Options{Limit: g.MaxBody, Keep: rec.Logged || g.LogPrompts > 0, Memory: g.Memory, Uploads: &g.uploads}
	if x.Own != nil {
		options := dialect.AllOptions
		options.Model = g.SimpleChat
		o.Translate = func(r *openai.Request) (translated []byte, err *openai.Error) {
			translated, held.tools, err = x.Own.Request(&r.Object, options)
			return translated, err
		}
	}
	err := body.Read(&x.Writer, x.Request, x.Endpoint, o)
	rec.RequestInfo = exchange.RequestInfo{Model: body.Model, Stream: body.Stream, Received: body.Size, ReadTime: body.ReadTime, JSON: body.JSON()}
	return body, err
}

// showQuota answers GET /llm/usage.
func (g *Gateway) showQuota(x *exchange.Exchange, key *keys.Key) *openai.Error {
	if err := allowGet(x.Request); err != nil {
		return err
	}
	answer, err := g.Access.Quota(x.Request, x.Writer.Header(), key)
	if err != nil {
		return err
	}
	x.SendJSON(answer)
	return nil
}

// showStatus answers GET /llm/status.
func (g *Gateway) showStatus(x *exchange.Exchange, key *keys.Key) *openai.Error {
	g.Access.SetQuotaHeaders(x.Request, x.Writer.Header(), key)
	if err := allowGet(x.Request); err != nil {
		return err
	}
	models := g.catalog.Residents(x.Request.Context(), key != nil && key.LocalOnly, key.May)
	answer, err := json.Marshal(statusOf(key, g.delivery.Describe(x), g.Upstreams, models, g.delivery.Upstream))
	if err != nil {
		return &openai.Error{Status: http.StatusInternalServerError, Type: exchange.ServerError, Message: "The status could not be written as JSON."}
	}
	x.SendJSON(answer)
	return nil
}

// listModels answers GET /v1/models and /v1/models/{id}.
func (g *Gateway) listModels(x *exchange.Exchange, key *keys.Key, id string) *openai.Error {
	g.Access.SetQuotaHeaders(x.Request, x.Writer.Header(), key)
	if err := allowGet(x.Request); err != nil {
		return err
	}
	x.Record.Model = id
	list, query := g.catalog.ListModels, x.Request.URL.Query()
	switch {
	case id == "" && query.Has("client_version"):
		list = func(ctx context.Context, _ string, localOnly bool, may func(string) bool) ([]byte, *openai.Error) {
			answer, etag, err := g.catalog.ListCodexModels(ctx, localOnly, may)
			x.Writer.Header()["Etag"] = []string{etag}
			return answer, err
		}
	case x.API == dialect.Anthropic:
		list = func(ctx context.Context, id string, localOnly bool, may func(string) bool) ([]byte, *openai.Error) {
			return g.catalog.ListMessagesModels(ctx, id, query, localOnly, may)
		}
	}
	answer, err := list(x.Request.Context(), id, key != nil && key.LocalOnly, key.May)
	if err != nil {
		return err
	}
	x.SendJSON(answer)
	return nil
}

func allowGet(r *http.Request) *openai.Error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return exchange.WrongMethod(r, "GET, HEAD")
	}
	return nil
}

// excerpt returns the first n characters of a text, on one line.
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
