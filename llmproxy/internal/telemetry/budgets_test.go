package telemetry

import (
	"testing"
	"testing/synctest"
	"time"
)

// A budget is reported as used up once for as long as it stays so, and again when it had room meanwhile.
func TestBudgetIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &budgetAlerts{until: map[string]time.Time{}}
		for i, step := range []struct {
			after  time.Duration
			budget string
			wait   time.Duration
			first  bool
		}{
			{0, "a", 0, true}, {time.Minute, "a", 0, false}, {0, "b", 24 * time.Hour, true}, {2 * time.Hour, "a", 5 * time.Hour, true},
			{4 * time.Hour, "a", time.Hour, false}, {2 * time.Hour, "a", 0, true}, {15 * time.Hour, "b", time.Minute, false}, {2 * time.Hour, "b", 0, true},
		} {
			time.Sleep(step.after)
			if got := s.shouldAlert(step.budget, step.wait); got != step.first {
				t.Errorf("step %d: said %v", i, got)
			}
		}
		if len(s.until) != 1 {
			t.Errorf("%d budgets are remembered, the past ones too", len(s.until))
		}
	})
}
