package gateway

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/reqbody"
)

// assumedOutput is the assumed length of an answer in tokens if the request does not limit it. Settling corrects the estimate.
const assumedOutput = 1024

// A demand is what a request is expected to use.
type demand struct {
	g    *Gateway
	x    *exchange.Exchange
	body *reqbody.Body
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
	if request == nil {
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
