package telemetry

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// alertInterval is how long after an alert a budget that still refuses requests is reported again.
const alertInterval = time.Hour

// budgetAlerts remembers which budgets were reported as used up, and until when they need no other report. All handlers share
// it, and it survives reloads.
type budgetAlerts struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func newBudgetAlerts() *budgetAlerts { return &budgetAlerts{until: map[string]time.Time{}} }

func acquireBudgetAlerts(c *state.Closer) *budgetAlerts {
	b, _ := state.Acquire(c.AddLasting, state.BudgetAlerts, "", func() (*budgetAlerts, error) { return newBudgetAlerts(), nil }) // building it cannot fail
	return b
}

// shouldAlert reports whether to report that a budget is used up. It does not repeat a report within alertInterval, or within
// wait, the time for which the budget will at least stay used up.
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
	if until := now.Add(max(wait, alertInterval)); until.After(before) {
		b.until[budget] = until
	}
	return !reported || now.After(before)
}

// BudgetUsed reports that 80 or 100 percent of a budget have been used.
func (o *Observer) BudgetUsed(budget *ratelimit.Limit, percent int) {
	if percent < 100 || o.budgets.shouldAlert(budget.ID, 0) {
		o.alert(budget, percent)
	}
}

// BudgetRefused reports that a budget refused a request. Budgets are rarely used up to the last cent, because they refuse what
// does not fit.
func (o *Observer) BudgetRefused(budget *ratelimit.Limit, wait time.Duration) {
	if o.budgets.shouldAlert(budget.ID, wait) {
		o.alert(budget, 100)
	}
}

// alert logs that a budget is nearly or completely used up, and emits an event.
func (o *Observer) alert(budget *ratelimit.Limit, percent int) {
	message, event := "budget is nearly used up", "budget_warning"
	if percent >= 100 {
		message, event = "budget is used up", "budget_exceeded"
	}
	o.logger.Warn(message, zap.String("budget", budget.ID), zap.Stringer("limit", budget.Rule), zap.Int("percent", percent))
	go o.emit(event, map[string]any{"budget": budget.ID, "limit": budget.Rule.String(), "percent": percent}) // subscribers may block
}
