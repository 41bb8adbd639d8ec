package ratelimit

import (
	"net/netip"
	"testing"
)

// What is asked for elsewhere is left to those who ask, until they have an answer.
func TestAskedIsLeft(t *testing.T) {
	t.Parallel()
	now := at("2026-11-25 12:00:00")
	for _, test := range []struct {
		name string
		want Take
	}{
		{"requests", Take{Limits: limits(t, Requests, "10/h")}},
		{"budget", Take{Limits: limits(t, Spend, "$10/day"), Spend: Dollar}},
		{"address", Take{Limits: []*Limit{{Address: netip.MustParseAddr("192.0.2.1"), Rule: rule(t, Requests, "10/h")}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, one := NewMemory(), test.want
			for range 7 {
				m.ask(&one, 1)
			}
			if fit := takes(m, now, 10, test.want); fit != 3 {
				t.Errorf("%d fit besides 7 of 10, want 3", fit)
			}
			if m.take(now, &one); one.Denied == nil || one.Wait != askedWait {
				t.Errorf("denied %v, wait %s", one.Denied, one.Wait)
			}
			for range 7 {
				m.ask(&one, -1)
			}
			if len(m.asked) != 0 {
				t.Errorf("%v are remembered", m.asked)
			}
			if fit := takes(m, now, 10, test.want); fit != 7 {
				t.Errorf("%d fit when the others are refused, want 7", fit)
			}
		})
	}
}
