package admission

import (
	"fmt"
	"testing"
	"time"
)

func TestSpill(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		forecasts []int  // in tenths of seconds; -1 if it is unknown
		decisions string // + for a request that is sent on
	}{
		{"two long waits in a row", []int{60, 60, 60}, "-++"},
		{"one long wait", []int{60, 40, 60, 40}, "----"},
		{"as long as allowed", []int{50, 50, 50}, "---"},
		{"it goes on above three fifths", []int{60, 60, 40, 31, 40}, "-++++"},
		{"a short wait is not sent on", []int{60, 60, 20, 40}, "-+-+"},
		{"two short waits in a row", []int{60, 60, 20, 20, 40, 60, 60}, "-+----+"},
		{"an unknown wait", []int{-1, -1, -1}, "---"},
		{"unknown waits in between change nothing", []int{60, -1, 60, -1, 40}, "--+-+"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, decisions := &Spill{After: 5 * time.Second}, ""
			for _, tenths := range test.forecasts {
				f := Forecast{Known: tenths >= 0, FirstToken: time.Duration(tenths) * time.Second / 10}
				if s.Decide(Caller{Key: "alice"}, f) {
					decisions += "+"
				} else {
					decisions += "-"
				}
				if s.Decide(Caller{Key: "bob"}, Forecast{Known: true, FirstToken: time.Second}) {
					t.Error("another caller's request was sent on, too")
				}
			}
			if decisions != test.decisions {
				t.Errorf("got %s, want %s", decisions, test.decisions)
			}
		})
	}
}

func TestSpillForgetsCallers(t *testing.T) {
	t.Parallel()
	s := &Spill{After: time.Second}
	for i := range 5 * maxSpillCallers {
		s.Decide(Caller{Key: fmt.Sprint(i)}, Forecast{Known: true, FirstToken: time.Minute})
		if len(s.callers) > maxSpillCallers {
			t.Fatalf("%d callers are remembered", len(s.callers))
		}
	}
}
