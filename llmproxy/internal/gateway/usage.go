package gateway

import (
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/relay"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// use puts into the record what the answer used: as the upstream counted it, else reckoned from the texts, of which the
// answer's is what was seen of it.
func (c *call) use(m relay.Meter) {
	c.rec.Usage, c.rec.HasUsage = m.Usage, m.HasUsage
	if m.HasUsage || !c.task.endpoint.Texts || c.up.Head == nil {
		return
	}
	c.rec.Usage = wire.Usage{Input: int64(c.head.Signals().PromptTokens), Output: int64(wire.EstimateTokens(m.Said.Bytes))}
	c.rec.HasUsage, c.rec.Estimated = true, true
}
