package gateway

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// countTokens answers a request for the tokens of a prompt, or for their number. Clients use it to decide when a conversation must be
// shortened. It counts as a request, but not as tokens or money.
func (g *Gateway) countTokens(x *exchange.Exchange, key *keys.Key, held *held) *openai.Error {
	body, err := g.admit(x, key, held)
	if err != nil {
		return err
	}
	header := x.Writer.Header()
	if err = access.CheckModel(key, x.Record.Model); err == nil && x.Endpoint == openai.Tokenize {
		err = dialect.CheckTokenize(&body.JSON().Object)
	}
	if err != nil {
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
	answer := count.Answer
	switch {
	case answer == nil:
		answer = &upstream.Count{Tokens: int64(count.Estimate)}
		header["X-Llm-Estimated"] = []string{"true"}
	case answer.Body != nil:
		x.SendJSON(answer.Body)
		return nil
	}
	x.SendJSON(countAnswer(x.Endpoint, answer, count.Window))
	return nil
}

// countAnswer returns the answer of an endpoint with the number of tokens.
func countAnswer(e *openai.Endpoint, c *upstream.Count, window int) []byte {
	switch e {
	case openai.InputTokens:
		return fmt.Appendf(nil, `{"object":"response.input_tokens","input_tokens":%d}`, c.Tokens)
	case openai.Tokenize:
		limit := "null"
		if window > 0 {
			limit = strconv.Itoa(window)
		}
		list, _ := json.Marshal(c.List) // they were read from JSON, and null means that they are not known
		pieces, _ := json.Marshal(c.Pieces)
		return fmt.Appendf(nil, `{"count":%d,"max_model_len":%s,"tokens":%s,"token_strs":%s}`, c.Tokens, limit, list, pieces)
	}
	return fmt.Appendf(nil, `{"input_tokens":%d}`, c.Tokens)
}
