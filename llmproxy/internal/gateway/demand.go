package gateway

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// assumedOutput is the assumed length of an answer in tokens if the request does not limit it. Settling corrects the estimate.
const assumedOutput = 1024

// A demand is what a request is expected to use.
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
	request := d.body.JSON()
	if request == nil || d.x.Endpoint.CountsOnly {
		return 0, 0
	}
	signals := request.Signals()
	input = int64(signals.PromptTokens)
	if d.x.Endpoint.Writes() {
		output = int64(signals.MaxTokens)
		if output == 0 {
			output = assumedOutput
		}
		output *= int64(request.Choices())
	}
	return input, output
}

// MaxCost implements access.Demand. It returns the cost at the most expensive target that may answer. Targets without a known price do
// not count.
func (d *demand) MaxCost(input, output int64) (highest float64) {
	g, model := d.g, d.x.Record.Model
	add := func(t router.Target) {
		u := g.delivery.Upstream(t.Upstream)
		if u == nil || d.localOnly && !u.IsLocal() {
			return
		}
		if price := g.delivery.Price(u, u.Name+"/"+t.ModelFor(model), d.x.Endpoint, d.body.JSON()); price != nil {
			cost, _ := price.Cost(prices.Consumption{Usage: tokens.Usage{Input: input, Output: output}})
			highest = max(highest, cost)
		}
	}
	if plan, ok := g.Models.Lookup(model); ok {
		plan.Targets(add)
		return highest
	}
	for _, u := range g.Upstreams {
		add(router.Target{Upstream: u.Route})
	}
	return highest
}
