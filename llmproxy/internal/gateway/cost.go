package gateway

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/wire"
)

// Price gives the price of a target of the upstream, written "upstream/model"; nil if it is unknown.
func (g *Gateway) Price(u *upstream.Upstream, target string) *prices.Price {
	return g.Prices.Find(prices.Place{Service: prices.Service(u.Bases[0].Hostname()), Local: u.IsLocal()}, target)
}

// cost puts into the record what the answer costs at the target that gave it.
func (a *attempt) cost() {
	rec := a.c.rec
	price := a.c.g.Price(a.u, rec.Target)
	if price == nil || price.CountsTokens() && !rec.HasUsage {
		return
	}
	busy := time.Since(a.started)
	rec.Cost, rec.HasCost = price.Cost(Tokens(rec.Usage), busy), true
	if rec.HasUsage {
		rec.Saved = price.Saved(Tokens(rec.Usage), busy)
	}
}

// Tokens is a usage as prices counts it.
func Tokens(u wire.Usage) prices.Tokens {
	return prices.Tokens{Input: u.Input, Cached: u.Cached, Output: u.Output}
}
