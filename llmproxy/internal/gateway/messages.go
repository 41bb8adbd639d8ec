package gateway

import (
	"net/http"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// countTokens answers POST /v1/messages/count_tokens. Clients use it to decide when a conversation must be shortened. It counts as a
// request, but not as tokens or money.
func (g *Gateway) countTokens(x *exchange.Exchange, key *keys.Key, held *held) *openai.Error {
	body, err := g.admit(x, key, held)
	if err != nil {
		return err
	}
	header := x.Writer.Header()
	if err := access.CheckModel(key, x.Record.Model); err != nil {
		g.Access.Refund(held.reservation)
		g.Access.SetQuotaHeaders(x.Request, header, key)
		return err
	}
	plan, local, err := g.plan(x, body, key != nil && key.LocalOnly)
	if err != nil {
		return err
	}
	count, err := g.delivery.Count(x.Request.Context(), x, &exchange.PlannedRequest{Plan: plan, Body: body, LocalOnly: local})
	if err != nil {
		return err
	}
	if count.Answer != nil {
		x.SendJSON(count.Answer.Body)
		return nil
	}
	header["X-Llm-Estimated"] = []string{"true"}
	x.SendJSON(append(strconv.AppendInt([]byte(`{"input_tokens":`), int64(count.Estimate), 10), '}'))
	return nil
}

// apiOf returns the API that the client uses. Paths that both APIs have belong to Anthropic's clients if they say so.
func (t Task) apiOf(r *http.Request) dialect.API {
	if t.endpoint == nil && t.api == dialect.OpenAI && r.Header["Anthropic-Version"] != nil {
		return dialect.Anthropic
	}
	return t.api
}

// Translate returns a request to the task's path in OpenAI's format, or nil if it is invalid.
func (t Task) Translate(request *openai.Request) *openai.Request {
	if t.endpoint == nil || !t.endpoint.Foreign {
		return request
	}
	body, _, err := dialect.EndpointOf(t.endpoint).Request(&request.Object, dialect.AllOptions)
	translated := new(openai.Request)
	if err != nil || translated.Parse(body) != nil {
		return nil
	}
	return translated
}
