package ratelimit

import (
	"testing"
	"time"
)

// Ten parallel requests cannot overrun: what is overspent is at most one request's error of estimation.
func TestReserveAndSettle(t *testing.T) {
	t.Parallel()
	m, now := newStore(t), at("2026-11-25 12:00:00")
	budget := limits(t, Spend, "$1/30d")
	running := []*Reservation{}
	for range 10 {
		one := &Reservation{Limits: budget, Spend: Dollar / 4}
		if m.take(now, one); one.Denied == nil {
			running = append(running, one)
		}
	}
	if len(running) != 4 {
		t.Fatalf("%d of ten run at the same time, want 4", len(running))
	}
	for _, one := range running { // each was cheaper than was thought
		m.settle(now, one, 0, Dollar/10)
		m.settle(now, one, 0, Dollar) // a second time must not count
	}
	again := &Reservation{Limits: budget, Spend: Dollar / 4}
	m.take(now, again)
	if left := again.Left[0].Left; again.Denied != nil || left != Dollar*6/10-Dollar/4 {
		t.Errorf("denied %v, left %d", again.Denied, left)
	}
	places := limits(t, Concurrent, "1")
	first, second := &Reservation{Limits: places}, &Reservation{Limits: places}
	m.take(now, first)
	m.take(now, second)
	if second.Denied == nil || second.Wait != Never {
		t.Error("a second request got the one place")
	}
	m.settle(now, second, 0, 0) // it took nothing, and gives nothing back
	m.settle(now, first, 0, 0)
	m.take(now, second)
	if second.Denied != nil {
		t.Error("the place did not come free")
	}
}

// In no stretch of the window's length is more spent than the budget.
func TestSlidingBudgetHoldsInEveryWindow(t *testing.T) {
	t.Parallel()
	m, start := newStore(t), at("2026-11-25 12:00:00")
	want := Reservation{Limits: limits(t, Spend, "$10/60h"), Spend: Dollar}
	var spent []time.Duration
	for step := range 4000 { // every quarter of an hour for 41 days
		passed := time.Duration(step) * 15 * time.Minute
		if takes(m, start.Add(passed), 1, want) == 1 {
			spent = append(spent, passed)
		}
	}
	for i := range spent[10:] {
		if spent[i+10]-spent[i] < 60*time.Hour {
			t.Fatalf("eleven dollars within %s", spent[i+10]-spent[i])
		}
	}
	if len(spent) < 150 {
		t.Errorf("only %d dollars of about 160 were let through", len(spent))
	}
}

func TestBudgetMarksAreToldOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"$10/30d", "$10/month"} {
		m, now := newStore(t), at("2026-11-02 12:00:00")
		var told []int
		spend := func(dollars int64) {
			one := &Reservation{Limits: limits(t, Spend, text), Crossed: func(_ *Limit, percent int) { told = append(told, percent) }}
			m.take(now, one)
			m.settle(now, one, 0, dollars*Dollar)
		}
		for _, dollars := range []int64{7, 1, 1, 1, 3} {
			spend(dollars)
		}
		now = now.AddDate(0, 2, 0)
		spend(1)
		spend(8)
		if len(told) != 3 || told[0] != 80 || told[1] != 100 || told[2] != 80 {
			t.Errorf("%s: told %v, want 80, 100 and, two months later, 80", text, told)
		}
	}
}

// What a request gives back comes from the time when it was taken, and goes with it.
func TestSlidingBudgetGivesBackWhereItTook(t *testing.T) {
	t.Parallel()
	m, want := newStore(t), Reservation{Limits: limits(t, Spend, "$10/60h"), Spend: 8 * Dollar} // slots of an hour
	start := at("2026-11-25 12:00:00")
	old := want
	m.take(start, &old)
	m.settle(start.Add(3*time.Hour), &old, 0, Dollar)
	if want.Spend = 9 * Dollar; takes(m, start.Add(3*time.Hour), 2, want) != 1 {
		t.Error("what was given back cannot be taken, or more than that")
	}
	late := Reservation{Limits: want.Limits, Spend: Dollar}
	if takes(m, start.Add(60*time.Hour), 1, late) != 0 || takes(m, start.Add(61*time.Hour), 2, late) != 1 {
		t.Error("the dollar of the first hour must go with it, and no other")
	}
}
