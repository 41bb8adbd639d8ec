package access

import (
	"context"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// A SpillBudget bounds what the requests of a model cost that go on to a later pool because of load. It implements
// delivery.SpillBudget.
type SpillBudget struct {
	Limiter Limiter
	Limits  []*ratelimit.Limit
	// Used is called when 80 or 100 percent of a budget have been used. It must not block.
	Used func(budget *ratelimit.Limit, percent int)
}

// Covers reports whether the budget covers a request of that cost in US dollars now.
func (b *SpillBudget) Covers(ctx context.Context, cost float64) bool {
	r := ratelimit.Reservation{Limits: b.Limits, Spend: toSpend(cost)}
	return b.Limiter.Peek(ctx, &r) == nil && leftOf(&r) >= r.Spend
}

// Pay reserves the likely cost of a request or, near the end of the budget, all of the rest if that covers the least cost. It reports false
// if the budget does not cover it, or cannot be reached. Settle replaces the reservation by the real cost, and must be called.
func (b *SpillBudget) Pay(ctx context.Context, least, likely float64) (settle func(cost float64), ok bool) {
	r := &ratelimit.Reservation{Limits: b.Limits, Spend: toSpend(likely), BudgetUsed: b.Used}
	if err := b.Limiter.Take(ctx, r); err != nil {
		return nil, false
	}
	if rest := leftOf(r); r.Denied != nil && rest > 0 && rest >= toSpend(least) {
		r.Spend = rest
		if err := b.Limiter.Take(ctx, r); err != nil {
			return nil, false
		}
	}
	if r.Denied != nil {
		return nil, false
	}
	return func(cost float64) { b.Limiter.Settle(r, 0, toSpend(cost)) }, true
}

// leftOf returns what is left of all budgets of a reservation.
func leftOf(r *ratelimit.Reservation) int64 {
	rest := r.Spend
	for _, left := range r.Left {
		rest = min(rest, left.Left)
	}
	return rest
}
