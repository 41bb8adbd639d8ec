package llmproxy

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// spentBudgets holds who remembers which budgets were said to be used up: one for the process, whatever is reloaded.
var spentBudgets = caddy.NewUsagePool()

// againAfter is how long after its last word a budget is said to be used up again, if it refuses requests.
const againAfter = time.Hour

// A spent remembers which budgets were said to be used up, and until when that needs no other word.
type spent struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// Destruct implements caddy.Destructor.
func (*spent) Destruct() error { return nil }

func (h *Handler) spentBudgets() *spent {
	value, _ := spentBudgets.LoadOrStore("", &spent{until: map[string]time.Time{}})
	h.lasting = append(h.lasting, func() { spentBudgets.Delete("") }) //nolint:errcheck // Destruct does not fail
	return value.(*spent)
}

// first tells whether that was not said yet, of a budget that is used up for at least so long.
func (s *spent) first(budget string, wait time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	before, said := s.until[budget]
	for id, until := range s.until {
		if now.After(until) {
			delete(s.until, id)
		}
	}
	if until := now.Add(max(wait, againAfter)); until.After(before) {
		s.until[budget] = until
	}
	return !said || now.After(before)
}

// crossed hears that 80 or 100 percent of a budget were used.
func (h *Handler) crossed(budget *ratelimit.Limit, percent int) {
	if percent < 100 || h.spent.first(budget.ID, 0) {
		h.sayCrossed(budget, percent)
	}
}

// refused hears that what is left of a budget does not cover a request: as a rule nothing uses a budget up to the last cent, because what does
// not fit is refused before.
func (h *Handler) refused(budget *ratelimit.Limit, wait time.Duration) {
	if h.spent.first(budget.ID, wait) {
		h.sayCrossed(budget, 100)
	}
}

// sayCrossed says in the log, and with an event, that a budget is nearly or wholly used up.
func (h *Handler) sayCrossed(budget *ratelimit.Limit, percent int) {
	message, event := "a budget is nearly used up", "budget_warning"
	if percent >= 100 {
		message, event = "a budget is used up", "budget_exceeded"
	}
	h.logger.Warn(message, zap.String("budget", budget.ID), zap.Stringer("limit", budget.Rule), zap.Int("percent", percent))
	if h.events.ShouldEmit(event) {
		go h.events.Emit(h.ctx, event, map[string]any{"budget": budget.ID, "limit": budget.Rule.String(), "percent": percent})
	}
}
