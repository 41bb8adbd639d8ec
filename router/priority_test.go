package router

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A line is the requests that wait for the one slot of a plan, by their names.
type line struct {
	t       *testing.T
	plan    *Plan
	replica *Replica
	names   []string
	walks   []*Walk
	tickets []*Ticket
}

// fullLine is a line whose slot is taken, and whose room has so many places.
func fullLine(t *testing.T, places int, longest time.Duration) *line {
	t.Helper()
	plan, us := limited(t, LeastBusy, 1, places, "a")
	us[0].Room.Wait = longest
	enter(t, plan)
	return &line{t: t, plan: plan, replica: us[0].Replicas[0]}
}

// come adds a request; false if it found no place.
func (l *line) come(name string, p Priority) bool {
	l.t.Helper()
	w := &Walk{Plan: l.plan, Priority: p}
	turn, _ := w.Next()
	if _, ok := w.Take(turn); ok {
		l.t.Fatal("a slot is free")
	}
	ticket, ok := w.Queue(turn)
	if ok {
		l.names, l.walks, l.tickets = append(l.names, name), append(l.walks, w), append(l.tickets, ticket)
	}
	return ok
}

// leave ends the waits that are over, and gives who got a slot, or, for displaced, lost their place.
func (l *line) leave(displaced bool) (who string) {
	for i := 0; i < len(l.tickets); i++ {
		select {
		case index := <-l.tickets[i].Granted():
			if (index < 0) != displaced {
				l.t.Errorf("%s was told %d", l.names[i], index)
			}
			who += l.names[i]
			l.tickets[i].Leave()
			l.names, l.walks, l.tickets = slices.Delete(l.names, i, i+1), slices.Delete(l.walks, i, i+1), slices.Delete(l.tickets, i, i+1)
			i--
		default:
		}
	}
	return who
}

// served gives a slot back and again, and tells in which order the line is served.
func (l *line) served() (order string) {
	l.t.Helper()
	for len(l.tickets) > 0 {
		l.replica.End()
		who := l.leave(false)
		if who == "" {
			l.t.Fatalf("nobody got the slot; %v wait", l.names)
		}
		order += who
	}
	l.replica.End()
	if l.replica.Open() != 0 || l.replica.Waiting() != 0 || l.replica.slots.seated != 0 {
		l.t.Errorf("left over: %d open, %d waiting, %d seated", l.replica.Open(), l.replica.Waiting(), l.replica.slots.seated)
	}
	return order
}

func TestLineByPriority(t *testing.T) {
	t.Parallel()
	const quarter = 10 * time.Second
	class := map[rune]Priority{'h': High, 'n': Normal, 'l': Low}
	for _, test := range []struct{ name, come, order string }{
		{"first come, first served within a class", "n1 n2 n3", "n1n2n3"},
		{"the higher class first", "l1 n1 h1 l2 n2 h2", "h1h2n1n2l1l2"},
		{"who waited less than a quarter does not move up", "l1 n1 9s h1", "h1n1l1"},
		{"a normal one moves up after a quarter", "l1 n1 11s h1 n2", "n1h1l1n2"},
		{"a low one after a quarter", "l1 11s n1 h1", "h1l1n1"},
		{"and again after a half", "l1 21s h1 n1", "l1h1n1"},
		{"behind those who are in the class already", "l1 5s n1 6s n2", "n1l1n2"},
		{"nobody moves up beyond the highest", "h1 60s h2 l1 60s h3", "h1h2l1h3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := fullLine(t, 16, 4*quarter)
				for _, word := range strings.Fields(test.come) {
					if p, ok := class[rune(word[0])]; ok {
						l.come(word, p)
						continue
					}
					d, err := time.ParseDuration(word)
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(d)
				}
				if got := l.served(); got != test.order {
					t.Errorf("served %s, want %s", got, test.order)
				}
			})
		})
	}
}

// In a full room somebody of a higher class takes the place of the last one of a lower, unless that one has moved up.
func TestFullRoomByPriority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := fullLine(t, 3, 40*time.Second)
		var told []string
		for _, step := range []struct {
			name string
			p    Priority
		}{{"l1", Low}, {"n1", Normal}, {"l2", Low}, {"l3", Low}, {"n2", Normal}, {"h1", High}, {"n3", Normal}, {"h2", High}, {"h3", High}, {"h4", High}} {
			came := "stays out"
			if l.come(step.name, step.p) {
				came = "for " + l.leave(true)
			}
			told = append(told, step.name+" "+came)
		}
		want := []string{"l1 for ", "n1 for ", "l2 for ", "l3 stays out", "n2 for l2", "h1 for l1", "n3 stays out", "h2 for n2", "h3 for n1", "h4 stays out"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		if got := l.served(); got != "h1h2h3" {
			t.Errorf("served %s", got)
		}

		l = fullLine(t, 1, 40*time.Second)
		l.come("l1", Low)
		time.Sleep(21 * time.Second)
		if l.come("h1", High) {
			t.Error("somebody who had moved up lost his place")
		}
		if got := l.served(); got != "l1" {
			t.Errorf("served %s", got)
		}
	})
}

// A room of another configuration that nobody may wait in gives no place either, whoever waits for the same replica.
func TestNoRoomIsNoRoom(t *testing.T) {
	t.Parallel()
	l := fullLine(t, 2, time.Minute)
	l.come("l1", Low)
	u := &Upstream{Name: "b", Replicas: []*Replica{l.replica}}
	u.SetLimit(1)
	pool, err := NewPool(First, []Target{{Upstream: u}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &Walk{Plan: &Plan{Pools: []*Pool{pool}}, Priority: High}
	turn, _ := w.Next()
	if _, ok := w.Queue(turn); ok {
		t.Error("a room without places let somebody in")
	}
	if got := l.served(); got != "l1" {
		t.Errorf("served %s", got)
	}
}

func TestParsePriority(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Priority{"": Normal, "normal": Normal, "high": High, "low": Low} {
		if got, err := ParsePriority(name); err != nil || got != want {
			t.Errorf("%q is %v, %v", name, got, err)
		}
		if name != "" && want.String() != name {
			t.Errorf("%q is written %q", name, want)
		}
	}
	for _, name := range []string{"High", "critical", "2"} {
		if _, err := ParsePriority(name); err == nil {
			t.Errorf("%q is a priority", name)
		}
	}
}
