package telemetry

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// usageOf is what an exchange that is over adds to the ledger; false for one that used nothing: it was refused, or nobody answered.
func usageOf(rec *exchange.Record) (ledger.Use, bool) {
	if rec.FirstContent == 0 && !rec.HasUsage {
		return ledger.Use{}, false
	}
	u := ledger.Use{
		Key: rec.Key, Model: rec.Model, Target: rec.Target, At: rec.Started.Add(rec.Duration), Requests: 1,
		Input: rec.Usage.Input, Output: rec.Usage.Output, Cached: rec.Usage.Cached, USD: rec.Cost, Saved: rec.Saved,
	}
	if spilled(rec) {
		u.Spilled = 1
	}
	if !rec.HasCost && len(rec.Attempts) > 0 { // what the cache answers costs nothing
		u.Unpriced = 1
	}
	return u, true
}

// spilled reports whether the request left its first pool of targets, because of load or of a failure. A follower of a coalesced
// request has its route, but left nothing.
func spilled(rec *exchange.Record) bool {
	return len(rec.Attempts) > 0 && rec.Route != rec.Rule && (rec.Route == "spill" || strings.HasPrefix(rec.Route, "fallback:"))
}
