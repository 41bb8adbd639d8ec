package llmproxy

import (
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/gateway"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// A usageLedger sums up what was used: in a file of this machine, or in the state that several Caddys share.
type usageLedger interface {
	Add(ledger.Use)
	Query(ledger.Query) ([]ledger.Row, error)
}

// use is what a request that is over adds to the ledger; false for one that used nothing: it was refused, or nobody answered.
func use(rec *gateway.Record) (ledger.Use, bool) {
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

// spilled tells whether the request left its first pool of targets, because of load or of a failure.
func spilled(rec *gateway.Record) bool {
	return rec.Route != rec.Rule && (rec.Route == "spill" || strings.HasPrefix(rec.Route, "fallback:"))
}
