package access

import (
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A spill budget of $1: what is reserved is not available, what was not spent is again, and near the end all of the rest is reserved.
func TestSpillBudget(t *testing.T) {
	t.Parallel()
	limits, err := (&keys.Limits{Budget: []string{"$1/day"}}).For("spill/m")
	if err != nil {
		t.Fatal(err)
	}
	b := &SpillBudget{Limiter: ratelimit.NewMemory(), Limits: limits}
	ctx := t.Context()
	pay := func(least, likely float64) func(float64) {
		t.Helper()
		settle, ok := b.Pay(ctx, least, likely)
		if !ok {
			t.Fatalf("$%v are not covered", likely)
		}
		return settle
	}
	first := pay(0.3, 0.6)
	if _, ok := b.Pay(ctx, 0.5, 0.6); ok || b.Covers(ctx, 0.5) || !b.Covers(ctx, 0.4) {
		t.Error("what is reserved counts as left")
	}
	second := pay(0.3, 0.6) // gets the rest, $0.4
	if b.Covers(ctx, 0.01) {
		t.Error("the rest is not reserved")
	}
	first(0.1)
	second(0.2)
	if !b.Covers(ctx, 0.69) || b.Covers(ctx, 0.71) {
		t.Error("what was not spent is not available again")
	}
	pay(0.7, 0.7)(0.7)
	if _, ok := b.Pay(ctx, 0.01, 0.02); ok {
		t.Error("a budget that is used up covers a request")
	}
}
