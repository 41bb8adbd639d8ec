package telemetry

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// alertAgainAfter is how long after the last alert a budget is reported as used up again, if it still refuses requests.
const alertAgainAfter = time.Hour

// budgetAlerts remembers which budgets were reported as used up, and until when that needs no other report.
type budgetAlerts struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// KeepBudgetAlerts lets the observer report budgets. What was reported is kept over reloads.
func (o *Observer) KeepBudgetAlerts(c *state.Closer) {
	o.budgets, _ = state.Acquire(state.BudgetAlerts, "", func() (*budgetAlerts, error) { // building it cannot fail
		return &budgetAlerts{until: map[string]time.Time{}}, nil
	}, nil)
	c.AddLasting(func() { state.BudgetAlerts.Release("") })
}

// shouldAlert reports whether this budget has not been reported yet, since it was used up for at least so long.
func (b *budgetAlerts) shouldAlert(budget string, wait time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	before, reported := b.until[budget]
	for id, until := range b.until {
		if now.After(until) {
			delete(b.until, id)
		}
	}
	if until := now.Add(max(wait, alertAgainAfter)); until.After(before) {
		b.until[budget] = until
	}
	return !reported || now.After(before)
}

// BudgetUsed hears that 80 or 100 percent of a budget were used.
func (o *Observer) BudgetUsed(budget *ratelimit.Limit, percent int) {
	if percent < 100 || o.budgets.shouldAlert(budget.ID, 0) {
		o.alert(budget, percent)
	}
}

// BudgetRefused hears that what is left of a budget does not cover a request: as a rule nothing uses a budget up to the last cent,
// because what does not fit is refused before.
func (o *Observer) BudgetRefused(budget *ratelimit.Limit, wait time.Duration) {
	if o.budgets.shouldAlert(budget.ID, wait) {
		o.alert(budget, 100)
	}
}

// alert reports in the log, and with an event, that a budget is nearly or wholly used up.
func (o *Observer) alert(budget *ratelimit.Limit, percent int) {
	message, event := "budget is nearly used up", "budget_warning"
	if percent >= 100 {
		message, event = "budget is used up", "budget_exceeded"
	}
	o.Logger.Warn(message, zap.String("budget", budget.ID), zap.Stringer("limit", budget.Rule), zap.Int("percent", percent))
	if o.Events.ShouldEmit(event) {
		go o.Events.Emit(o.Context, event, map[string]any{"budget": budget.ID, "limit": budget.Rule.String(), "percent": percent})
	}
}
