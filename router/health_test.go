package router

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each case is what happens to a replica, step by step, and what it is afterwards.
func TestHealth(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	note := func(v Verdict) step { return func(r *Replica) { r.Note("m", Outcome{Verdict: v}, true) } }
	api := func(v Verdict) step { return func(r *Replica) { r.Note("m", Outcome{Verdict: v}, false) } }
	probe := func(s State) step { return func(r *Replica) { r.Probed(s) } }
	after := func(d time.Duration) step { return func(*Replica) { <-time.After(d) } }
	wedge := step(func(r *Replica) { r.Wedged() })
	claim := step(func(r *Replica) { r.claim() })
	for _, test := range []struct {
		name  string
		steps []step
		state State
		ready bool
	}{
		{"nothing", nil, Up, true},
		{"two strikes", []step{note(Failed), note(Timeout)}, Up, true},
		{"three in a row", []step{note(Failed), note(Timeout), note(Failed)}, Open, false},
		{"two, an answer, and two", []step{note(Failed), note(Failed), note(OK), note(Failed), note(Failed)}, Up, true},
		{"five in 30 s, answers between", []step{note(Failed), note(OK), note(Failed), note(OK), note(Failed), note(OK), note(Failed), note(OK), note(Failed)}, Open, false},
		{"five in a longer time", []step{note(Failed), note(OK), note(Failed), note(OK), after(31 * time.Second), note(Failed), note(OK), note(Failed), note(OK), note(Failed)}, Up, true},
		{"busy is no strike", []step{note(Overloaded), note(Overloaded), note(Overloaded), note(Overloaded), note(Overloaded)}, Up, true},
		{"the caller's errors are none", []step{note(ClientError), note(Unsupported), note(ClientError), note(Adjustable)}, Up, true},
		{"refused once", []step{note(Unreachable)}, Down, false},
		{"refused, and up again by a probe", []step{note(Unreachable), probe(Up)}, Up, true},
		{"refused, then loading", []step{note(Unreachable), probe(Loading)}, Loading, false},
		{"open, asked too early", []step{note(Failed), note(Failed), note(Failed), after(time.Hour)}, Open, false},
		{"half open by a probe", []step{note(Failed), note(Failed), note(Failed), probe(Up)}, HalfOpen, true},
		{"closed by an answer", []step{note(Failed), note(Failed), note(Failed), probe(Up), note(OK)}, Up, true},
		{"opened again by one strike", []step{note(Failed), note(Failed), note(Failed), probe(Up), note(Timeout)}, Open, false},
		{"a straggler's strike", []step{note(Failed), note(Failed), note(Failed), note(Failed), probe(Up)}, HalfOpen, true},
		{"a service, cooling", []step{api(Failed), api(Failed), api(Failed), after(4 * time.Second)}, Open, false},
		{"a service, cooled", []step{api(Failed), api(Failed), api(Failed), after(5 * time.Second)}, Open, true},
		{"a service, being tried by one", []step{api(Failed), api(Failed), api(Failed), after(5 * time.Second), claim}, HalfOpen, false},
		{"a service, the one never told", []step{api(Failed), api(Failed), api(Failed), after(5 * time.Second), claim, after(5 * time.Second)}, HalfOpen, true},
		{"a service, tried in vain, cools for longer", []step{api(Failed), api(Failed), api(Failed), after(5 * time.Second), claim, api(Failed), after(9 * time.Second)}, Open, false},
		{"a service, tried well", []step{api(Failed), api(Failed), api(Failed), after(5 * time.Second), claim, api(OK)}, Up, true},
		{"a service that is refused, at once", []step{api(Unreachable)}, Down, false},
		{"a service that was refused", []step{api(Unreachable), after(time.Second)}, Down, true},
		{"wedged", []step{wedge}, Wedged, false},
		{"wedged, and well by its probes", []step{wedge, probe(Up), after(4 * time.Second), probe(Up)}, Wedged, false},
		{"wedged, and it refuses well", []step{wedge, note(Overloaded), note(ClientError)}, Wedged, false},
		{"wedged, and those that it kept waiting", []step{wedge, note(Timeout), note(Timeout), note(Timeout), after(5 * time.Second)}, Wedged, true},
		{"wedged, being tried by one", []step{wedge, after(5 * time.Second), claim}, Wedged, false},
		{"wedged, tried in vain, cools for longer", []step{wedge, after(5 * time.Second), claim, note(Timeout), after(9 * time.Second)}, Wedged, false},
		{"wedged, tried in vain, cooled", []step{wedge, after(5 * time.Second), claim, note(Timeout), after(10 * time.Second)}, Wedged, true},
		{"wedged, tried well", []step{wedge, after(5 * time.Second), claim, note(OK)}, Up, true},
		{"wedged, then started again", []step{wedge, note(Unreachable), probe(Up)}, Up, true},
		{"wedged after its circuit was opened", []step{note(Failed), note(Failed), note(Failed), wedge, probe(Up)}, Wedged, false},
		{"a model that is not there", []step{note(Misconfigured)}, Up, false},
		{"a minute later", []step{note(Misconfigured), after(time.Minute)}, Up, true},
		{"after an answer", []step{note(Misconfigured), note(OK)}, Up, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &Replica{}
				for _, s := range test.steps {
					s(r)
				}
				if got := r.Facts().State; got != test.state {
					t.Errorf("it is %s, want %s", got, test.state)
				}
				if got := r.Ready("m"); got != test.ready {
					t.Errorf("Ready() = %v", got)
				}
				if !r.Ready("other") && r.Facts().State == Up {
					t.Error("another model is not ready")
				}
			})
		})
	}
}

// A circuit that goes on failing is open for 5 s doubled to 60 s.
func TestCircuitCoolsForLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{}
		strike := func() { r.Note("m", Outcome{Verdict: Failed}, true) }
		strike()
		strike()
		var got []time.Duration
		for range 6 {
			strike()
			got = append(got, r.ProbeIn())
			r.Probed(Up)
		}
		if diff := cmp.Diff([]time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// What is told: each time that it becomes ready or not, and a model that is hidden, once.
func TestChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{}
		var got []string
		tell := func(c Change, ok bool) {
			switch {
			case !ok:
			case c.Hidden != "":
				got = append(got, "hidden "+c.Hidden)
			case c.Healthy:
				got = append(got, "healthy "+c.State.String())
			default:
				got = append(got, "unhealthy "+c.State.String())
			}
		}
		for _, v := range []Verdict{Unreachable, Unreachable, OK, Failed, Failed, Failed, Misconfigured, Misconfigured} {
			tell(r.Note("m", Outcome{Verdict: v}, true))
		}
		up := r.BecomesReady()
		select {
		case <-up:
			t.Error("ready while its circuit is open")
		default:
		}
		tell(r.Probed(Up))
		<-up
		tell(r.Note("m", Outcome{Verdict: OK}, true))
		tell(r.Note("m", Outcome{Verdict: Misconfigured}, true))
		want := []string{"unhealthy down", "healthy up", "unhealthy open", "hidden m", "healthy half_open", "hidden m"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWatchIsClaimedOnce(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	if r.Watch() {
		t.Error("one that is up is watched")
	}
	r.Note("m", Outcome{Verdict: Unreachable}, true)
	if !r.Watch() || r.Watch() {
		t.Error("not claimed, or claimed twice")
	}
	r.Unwatch()
	if !r.Watch() {
		t.Error("not claimed again")
	}
}

// Who is shut out is tried when everything else failed; a lone one is never shut out.
func TestShutOutIsTheLastResort(t *testing.T) {
	t.Parallel()
	plan := func() (*Plan, *Replica) {
		us := upstreams("a", "b")
		pool := func(u *Upstream) *Pool {
			p, err := NewPool(First, []Target{{Upstream: u}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		us[0].Replicas[0].Note("m", Outcome{Verdict: Unreachable}, true)
		return &Plan{Pools: []*Pool{pool(us[0]), pool(us[1])}}, us[0].Replicas[0]
	}
	p, _ := plan()
	if diff := cmp.Diff([]string{"1:b", "0:a"}, walk([]Outcome{{Verdict: Timeout}}, p.Pools...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0:a"}, walk([]Outcome{{Verdict: Timeout}}, p.Pools[0])); diff != "" {
		t.Error(diff)
	}
	w := Walk{Plan: &Plan{Pools: p.Pools[:1]}}
	turn, _ := w.Next()
	if w.Take(turn); !w.Last() {
		t.Error("a lone one that is shut out is not waited for as the last one")
	}
}

func BenchmarkReady(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.Ready("m")
		r.Note("m", Outcome{}, true)
	}
}

// However many models clients make up, those that are hidden stay few.
func TestHiddenModelsAreBounded(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	for i := range 10 * maxHidden {
		r.Note(strconv.Itoa(i), Outcome{Verdict: Misconfigured}, false)
		if r.Ready(strconv.Itoa(i)) {
			t.Fatalf("the model %d is not hidden", i)
		}
	}
	if n := len(r.health.hidden); n > maxHidden {
		t.Errorf("%d models are hidden", n)
	}
}
