package telemetry

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestUsageOfARecord(t *testing.T) {
	at := time.Date(2026, 11, 25, 23, 59, 59, 0, time.UTC)
	answered := exchange.Record{Started: at, Duration: 2 * time.Second, Caller: exchange.Caller{Key: "alice"}, RequestInfo: exchange.RequestInfo{Model: "local"}, Answer: exchange.Answer{Target: "gpu/llama", FirstContent: time.Second, Usage: tokens.Usage{Input: 10, Output: 5, Cached: 4, Reasoning: 3}, HasUsage: true, Attempts: make([]exchange.Attempt, 1)}, Routing: exchange.Routing{Rule: "local", Route: "local"}}
	want := ledger.Usage{Key: "alice", Model: "local", Target: "gpu/llama", At: at.Add(2 * time.Second), Sums: ledger.Sums{Requests: 1, Usage: tokens.Usage{Input: 10, Output: 5, Cached: 4, Reasoning: 3}}}
	for _, test := range []struct {
		name   string
		change func(*exchange.Record)
		want   func(*ledger.Usage)
	}{
		{"a price", func(r *exchange.Record) { r.Cost, r.HasCost, r.Saved = 0.5, true, 0.25 }, func(u *ledger.Usage) { u.USD, u.Saved = 0.5, 0.25 }},
		{"no price", func(*exchange.Record) {}, func(u *ledger.Usage) { u.Unpriced = 1 }},
		{"spilled", func(r *exchange.Record) { r.Route = "spill" }, func(u *ledger.Usage) { u.Spilled, u.Unpriced = 1, 1 }},
		{"fell back", func(r *exchange.Record) { r.Route = "fallback:failed" }, func(u *ledger.Usage) { u.Spilled, u.Unpriced = 1, 1 }},
		{"a model named spill", func(r *exchange.Record) { r.Rule, r.Route = "spill", "spill" }, func(u *ledger.Usage) { u.Unpriced = 1 }},
		{"from the cache", func(r *exchange.Record) { r.Cache, r.Attempts, r.Usage = "hit", nil, tokens.Usage{} }, func(u *ledger.Usage) { u.Usage = tokens.Usage{} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec, want := answered, want
			test.change(&rec)
			test.want(&want)
			got, ok := usageOf(&rec)
			if diff := cmp.Diff(want, got); diff != "" || !ok {
				t.Error(ok, diff)
			}
		})
	}
	if u, ok := usageOf(&exchange.Record{Status: http.StatusNotFound, RequestInfo: exchange.RequestInfo{Model: "nope"}}); ok {
		t.Errorf("a rejected request used %v", u)
	}
}
