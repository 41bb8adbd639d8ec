package gateway

import (
	"math"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// answerTokens is what an answer is taken to need where the request does not say: the estimate is corrected when it is there.
const answerTokens = 1024

// estimate fills in what the request is expected to use, as far as a limit asks for it.
func (c *call) estimate(t *ratelimit.Take) {
	tokens, spend := false, false
	for _, l := range t.Limits {
		tokens = tokens || l.Rule.Unit == ratelimit.Tokens
		spend = spend || l.Rule.Unit == ratelimit.Spend
	}
	if !tokens && !spend {
		return
	}
	used := prices.Tokens{}
	if c.up.Head != nil {
		signals := c.head.Signals()
		used.Input = int64(signals.PromptTokens)
		if c.task.endpoint.Streams() { // its answer is text, and the request bounds its length
			used.Output = int64(signals.MaxTokens)
			if used.Output == 0 {
				used.Output = answerTokens
			}
			used.Output *= int64(c.head.Choices())
		}
	}
	t.Prompt, t.Tokens = used.Input, used.Input+used.Output
	if spend {
		t.Spend = nano(c.dearest(used))
	}
}

// dearest is what the request costs at the target that may answer it and takes the most. Targets without a price count
// nothing: what is unknown cannot be bounded.
func (c *call) dearest(used prices.Tokens) (most float64) {
	at := func(t router.Target) {
		u := c.g.upstreams[t.Upstream]
		if u == nil || c.localOnly && !u.IsLocal() {
			return
		}
		if price := c.g.Price(u, u.Name+"/"+t.ModelFor(c.rec.Model)); price != nil {
			most = max(most, price.Cost(used, 0))
		}
	}
	if plan, ok := c.g.Models.Lookup(c.rec.Model); ok {
		plan.Targets(at)
		return most
	}
	for _, u := range c.g.Upstreams {
		at(router.Target{Upstream: u.Route})
	}
	return most
}

// nano is an amount of dollars in the unit of ratelimit.Spend, rounded up.
func nano(dollars float64) int64 {
	return int64(math.Ceil(dollars*ratelimit.Dollar - 1e-3)) // a product such as 30000000.000000004 is meant whole
}

// settle puts what was really used in the place of the estimate.
func (c *call) settle() {
	if c.meter == nil {
		return
	}
	t, rec := &c.meter.take, c.rec
	tokens, spend := t.Tokens, t.Spend
	switch {
	case rec.HasUsage:
		tokens, spend = rec.Usage.Input+rec.Usage.Output, 0
	case !c.committed, rec.Cache != "" && len(rec.Attempts) == 0: // nobody generated
		tokens, spend = 0, 0
	}
	if rec.HasCost {
		spend = nano(rec.Cost)
	}
	c.g.Access.Limiter.Settle(t, tokens, spend)
}
