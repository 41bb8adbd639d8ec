package gateway

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// answerTokens is how long an answer is taken to be where the request does not say: the estimate is corrected when the answer
// is there.
const answerTokens = 1024

// A demand is what a request is expected to use, before anybody has answered it.
type demand struct {
	g         *Gateway
	x         *exchange.Exchange
	body      *reqbody.Body
	localOnly bool
}

var _ access.Demand = (*demand)(nil)

// Rule implements access.Demand.
func (d *demand) Rule() string {
	if plan, ok := d.g.Models.Lookup(d.x.Record.Model); ok {
		return plan.Rule
	}
	return ""
}

// Tokens implements access.Demand.
func (d *demand) Tokens() (input, output int64) {
	head := d.body.JSON()
	if head == nil {
		return 0, 0
	}
	signals := head.Signals()
	input = int64(signals.PromptTokens)
	if d.x.Endpoint.Streams() { // its answer is text, and the request bounds its length
		output = int64(signals.MaxTokens)
		if output == 0 {
			output = answerTokens
		}
		output *= int64(head.Choices())
	}
	return input, output
}

// Spend implements access.Demand: what the request costs at the target that may answer it and is the most expensive. Targets
// without a price count nothing: what is unknown cannot be bounded.
func (d *demand) Spend(input, output int64) (most float64) {
	g, model := d.g, d.x.Record.Model
	at := func(t router.Target) {
		u := g.delivery.Upstream(t.Upstream)
		if u == nil || d.localOnly && !u.IsLocal() {
			return
		}
		if price := g.delivery.Price(u, u.Name+"/"+t.ModelFor(model)); price != nil {
			most = max(most, price.Cost(prices.Tokens{Input: input, Output: output}, 0))
		}
	}
	if plan, ok := g.Models.Lookup(model); ok {
		plan.Targets(at)
		return most
	}
	for _, u := range g.Upstreams {
		at(router.Target{Upstream: u.Route})
	}
	return most
}
