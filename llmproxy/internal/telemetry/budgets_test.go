package telemetry

import (
	"testing"
	"testing/synctest"
	"time"
)

// A budget is reported once while it is used up, and again after it had room.
func TestBudgetIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBudgetAlerts()
		for i, step := range []struct {
			after  time.Duration
			budget string
			wait   time.Duration
			want   bool
		}{
			{0, "a", 0, true}, {time.Minute, "a", 0, false}, {0, "b", 24 * time.Hour, true}, {2 * time.Hour, "a", 5 * time.Hour, true},
			{4 * time.Hour, "a", time.Hour, false}, {2 * time.Hour, "a", 0, true}, {15 * time.Hour, "b", time.Minute, false}, {2 * time.Hour, "b", 0, true},
		} {
			time.Sleep(step.after)
			if got := b.shouldAlert(step.budget, step.wait); got != step.want {
				t.Errorf("step %d: alert %v", i, got)
			}
		}
		if len(b.until) != 1 {
			t.Errorf("%d budgets are remembered, want 1", len(b.until))
		}
	})
}
