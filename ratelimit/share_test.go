package ratelimit

import (
	"fmt"
	"testing"
	"time"
)

// Processes that cannot ask each other take together what was left when they last could, and what comes free since, and never more.
func TestSharesAddUp(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name       string
		want       Reservation
		used       int // takes before
		after      time.Duration
		most       int // takes that fit then, of all processes
		processes  int
		thisProces int // of them, one process's
	}{
		{name: "requests", want: Reservation{Limits: limits(t, Requests, "60/h")}, most: 60, processes: 2, thisProces: 30},
		{name: "requests, some used", want: Reservation{Limits: limits(t, Requests, "60/h")}, used: 20, most: 40, processes: 4, thisProces: 10},
		{name: "requests that come free", want: Reservation{Limits: limits(t, Requests, "60/h")}, used: 60, after: 6 * time.Minute, most: 6, processes: 3, thisProces: 2},
		{name: "a part that is not whole", want: Reservation{Limits: limits(t, Requests, "10/h")}, most: 9, processes: 3, thisProces: 3},
		{name: "tokens", want: Reservation{Limits: limits(t, Tokens, "100k/h"), Tokens: 5000}, most: 20, processes: 2, thisProces: 10},
		{name: "sliding budget", want: Reservation{Limits: limits(t, Spend, "$20/30d"), Spend: Dollar}, used: 8, most: 12, processes: 3, thisProces: 4},
		{name: "sliding budget, later", want: Reservation{Limits: limits(t, Spend, "$20/30d"), Spend: Dollar}, used: 20, after: 31 * 24 * time.Hour, most: 20, processes: 2, thisProces: 10},
		{name: "monthly budget", want: Reservation{Limits: limits(t, Spend, "$20/month"), Spend: Dollar}, used: 10, most: 10, processes: 5, thisProces: 2},
		{name: "the next month", want: Reservation{Limits: limits(t, Spend, "$20/month"), Spend: Dollar}, used: 20, after: 6 * 24 * time.Hour, most: 20, processes: 2, thisProces: 10},
		{name: "no part of money is rounded up", want: Reservation{Limits: limits(t, Spend, "$1/day"), Spend: Dollar * 6 / 10}, most: 0, processes: 2, thisProces: 0},
		{name: "places", want: Reservation{Limits: limits(t, Concurrent, "8")}, most: 8, processes: 4, thisProces: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all := 0
			for i := range test.processes {
				m, before := NewMemory(), test.want
				for range test.used { // heard of by all
					m.take(start, &before)
				}
				one := test.want
				one.share = share(test.processes)
				fit := takes(m, start.Add(test.after), 100, one)
				if fit != test.thisProces {
					t.Errorf("%d fit process %d, want %d", fit, i, test.thisProces)
				}
				all += fit
			}
			if all > test.most {
				t.Errorf("%d fit together, want %d at most", all, test.most)
			}
		})
	}
}

// A limit smaller than the number of processes lets one request through for each of them, and then keeps its pace together.
func TestSharesOfSmallLimits(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name  string
		want  Reservation
		first int
		pace  time.Duration // from one to the next
	}{
		{"requests", Reservation{Limits: limits(t, Requests, "1/m")}, 1, 4 * time.Minute},
		{"tokens", Reservation{Limits: limits(t, Tokens, "1000/m"), Tokens: 900, Prompt: 800}, 1, 4 * 54 * time.Second},
		{"places", Reservation{Limits: limits(t, Concurrent, "2")}, 1, 0},
		{"a prompt that never fits", Reservation{Limits: limits(t, Tokens, "1000/m"), Tokens: 1100, Prompt: 1001}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, one := NewMemory(), test.want
			one.share = 4
			if fit := takes(m, start, 3, one); fit != test.first {
				t.Fatalf("%d fit, want %d", fit, test.first)
			}
			if test.pace == 0 {
				return
			}
			if fit := takes(m, start.Add(test.pace-time.Second), 1, one); fit != 0 {
				t.Error("the next one fits too early")
			}
			if fit := takes(m, start.Add(test.pace), 1, one); fit != 1 {
				t.Error("the next one does not fit in time")
			}
		})
	}
}

// What only the others' shares forbid may be allowed again at any moment.
func TestShareWait(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00:00")
	m, one := NewMemory(), Reservation{Limits: limits(t, Spend, "$10/day"), Spend: 6 * Dollar}
	one.share = 2
	if m.take(now, &one); one.Denied == nil || one.Wait != shareWait {
		t.Errorf("denied %v, wait %s", one.Denied, one.Wait)
	}
	if one.Left[0].Left != 5*Dollar {
		t.Errorf("%d are left", one.Left[0].Left)
	}
	one.Spend = 11 * Dollar
	if m.take(now, &one); one.Wait != never {
		t.Errorf("what never fits waits %s", one.Wait)
	}
	one.Spend = 5 * Dollar
	if m.take(now, &one); one.Denied != nil || one.Left[0].Left != 0 {
		t.Errorf("denied %v, left %v", one.Denied, one.Left)
	}
	if m.settle(now, &one, 0, Dollar); takes(m, now, 2, one) != 0 {
		t.Error("more fits than came back")
	}
	if one.Spend = 4 * Dollar; takes(m, now, 2, one) != 1 {
		t.Error("what was not used did not come back")
	}
}

// What is owed is what one process alone would have counted.
func TestDebts(t *testing.T) {
	t.Parallel()
	start := at("2026-11-25 23:00:00")
	for _, test := range []struct {
		name string
		want Reservation
		used int64
		owed []float64 // for one request an hour ago and one now
	}{
		{"requests that have drained", Reservation{Limits: limits(t, Requests, "60/h")}, 0, []float64{1}},
		{"tokens", Reservation{Limits: limits(t, Tokens, "24k/d"), Tokens: 5000}, 4500, []float64{8000}},
		{"sliding budget", Reservation{Limits: limits(t, Spend, "$20/60h"), Spend: Dollar}, Dollar / 4, []float64{Dollar / 4, Dollar / 4}},
		{"daily budget", Reservation{Limits: limits(t, Spend, "$20/day"), Spend: Dollar}, Dollar / 4, []float64{Dollar / 4}},
		{"places", Reservation{Limits: limits(t, Concurrent, "9")}, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var d offlineUsage
			for hour := range 2 {
				now, one := start.Add(time.Duration(hour)*time.Hour), test.want
				one.At = now
				d.add(&one)
				if !d.settle(now, &one, test.used, test.used) {
					t.Error("it is settled too late")
				}
			}
			var got []float64
			for _, correction := range d.gather(start.Add(time.Hour)) {
				got = append(got, correction.amount)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.owed) {
				t.Errorf("%v are owed, want %v", got, test.owed)
			}
			late := test.want
			if late.owed = d.age; d.settle(start, &late, 0, 0) {
				t.Error("what was gathered is settled again")
			}
			if rest := d.gather(start); rest != nil {
				t.Errorf("%v are owed twice", rest)
			}
		})
	}
}

// However many addresses come while the shared facts are away, the memory for what they took is bounded.
func TestDebtsAreBounded(t *testing.T) {
	t.Parallel()
	var d offlineUsage
	rule := rule(t, Requests, "10/d")
	for i := range 2 * maxOfflineLimits {
		d.add(&Reservation{At: time.Now(), Limits: New(fmt.Sprint(i), []Rule{rule})})
	}
	if n := len(d.gather(time.Now())); n != maxOfflineLimits {
		t.Errorf("%d are remembered, want %d", n, maxOfflineLimits)
	}
}
