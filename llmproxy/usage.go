package llmproxy

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
)

// A usageLedger sums up what was used: in a file of this machine, or in the state that several Caddys share.
type usageLedger interface {
	Add(ledger.Use)
	Query(ledger.Query) ([]ledger.Row, error)
	Flush() error
}

// sharedUsage is what the pool of ledgers holds for a shared state.
type sharedUsage struct{ *ledger.Shared }

// Destruct implements caddy.Destructor.
func (s sharedUsage) Destruct() error { return s.Close() }

// usage gives the ledger of the shared state, or, without one, that of this machine.
func (h *Handler) usage(client redis.UniversalClient) usageLedger {
	if client == nil {
		return h.ledger()
	}
	value, _ := ledgers.LoadOrStore(client, sharedUsage{ledger.NewShared(client, reportLedger)})
	h.lasting = append(h.lasting, func() { ledgers.Delete(client) }) //nolint:errcheck // was reported
	return value.(sharedUsage)
}

// use is what a request that is over adds to the ledger; false for one that used nothing: it was refused, or nobody answered.
func use(rec *exchange.Record) (ledger.Use, bool) {
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

// spilled tells whether the request left its first pool of targets, because of load or of a failure. Who reads along
// with another one has its route, but left nothing.
func spilled(rec *exchange.Record) bool {
	return len(rec.Attempts) > 0 && rec.Route != rec.Rule && (rec.Route == "spill" || strings.HasPrefix(rec.Route, "fallback:"))
}
