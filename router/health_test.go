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
		{"two strikes", []step{note(Broken), note(Slow)}, Up, true},
		{"three in a row", []step{note(Broken), note(Slow), note(Broken)}, Open, false},
		{"two, an answer, and two", []step{note(Broken), note(Broken), note(OK), note(Broken), note(Broken)}, Up, true},
		{"five in 30 s, answers between", []step{note(Broken), note(OK), note(Broken), note(OK), note(Broken), note(OK), note(Broken), note(OK), note(Broken)}, Open, false},
		{"five in a longer time", []step{note(Broken), note(OK), note(Broken), note(OK), after(31 * time.Second), note(Broken), note(OK), note(Broken), note(OK), note(Broken)}, Up, true},
		{"busy is no strike", []step{note(Busy), note(Busy), note(Busy), note(Busy), note(Busy)}, Up, true},
		{"the caller's errors are none", []step{note(Caller), note(FitsElsewhere), note(Caller), note(Fixable)}, Up, true},
		{"refused once", []step{note(NotUp)}, Down, false},
		{"refused, and up again by a probe", []step{note(NotUp), probe(Up)}, Up, true},
		{"refused, then loading", []step{note(NotUp), probe(Loading)}, Loading, false},
		{"open, asked too early", []step{note(Broken), note(Broken), note(Broken), after(time.Hour)}, Open, false},
		{"half open by a probe", []step{note(Broken), note(Broken), note(Broken), probe(Up)}, HalfOpen, true},
		{"closed by an answer", []step{note(Broken), note(Broken), note(Broken), probe(Up), note(OK)}, Up, true},
		{"opened again by one strike", []step{note(Broken), note(Broken), note(Broken), probe(Up), note(Slow)}, Open, false},
		{"a straggler's strike", []step{note(Broken), note(Broken), note(Broken), note(Broken), probe(Up)}, HalfOpen, true},
		{"a service, cooling", []step{api(Broken), api(Broken), api(Broken), after(4 * time.Second)}, Open, false},
		{"a service, cooled", []step{api(Broken), api(Broken), api(Broken), after(5 * time.Second)}, Open, true},
		{"a service, being tried by one", []step{api(Broken), api(Broken), api(Broken), after(5 * time.Second), claim}, HalfOpen, false},
		{"a service, the one never told", []step{api(Broken), api(Broken), api(Broken), after(5 * time.Second), claim, after(5 * time.Second)}, HalfOpen, true},
		{"a service, tried in vain, cools for longer", []step{api(Broken), api(Broken), api(Broken), after(5 * time.Second), claim, api(Broken), after(9 * time.Second)}, Open, false},
		{"a service, tried well", []step{api(Broken), api(Broken), api(Broken), after(5 * time.Second), claim, api(OK)}, Up, true},
		{"a service that is refused, at once", []step{api(NotUp)}, Down, false},
		{"a service that was refused", []step{api(NotUp), after(time.Second)}, Down, true},
		{"wedged", []step{wedge}, Wedged, false},
		{"wedged, and well by its probes", []step{wedge, probe(Up), after(4 * time.Second), probe(Up)}, Wedged, false},
		{"wedged, and it refuses well", []step{wedge, note(Busy), note(Caller)}, Wedged, false},
		{"wedged, and those that it kept waiting", []step{wedge, note(Slow), note(Slow), note(Slow), after(5 * time.Second)}, Wedged, true},
		{"wedged, being tried by one", []step{wedge, after(5 * time.Second), claim}, Wedged, false},
		{"wedged, tried in vain, cools for longer", []step{wedge, after(5 * time.Second), claim, note(Slow), after(9 * time.Second)}, Wedged, false},
		{"wedged, tried in vain, cooled", []step{wedge, after(5 * time.Second), claim, note(Slow), after(10 * time.Second)}, Wedged, true},
		{"wedged, tried well", []step{wedge, after(5 * time.Second), claim, note(OK)}, Up, true},
		{"wedged, then started again", []step{wedge, note(NotUp), probe(Up)}, Up, true},
		{"wedged after its circuit was opened", []step{note(Broken), note(Broken), note(Broken), wedge, probe(Up)}, Wedged, false},
		{"a model that is not there", []step{note(Config)}, Up, false},
		{"a minute later", []step{note(Config), after(time.Minute)}, Up, true},
		{"after an answer", []step{note(Config), note(OK)}, Up, true},
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
		strike := func() { r.Note("m", Outcome{Verdict: Broken}, true) }
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
		for _, v := range []Verdict{NotUp, NotUp, OK, Broken, Broken, Broken, Config, Config} {
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
		tell(r.Note("m", Outcome{Verdict: Config}, true))
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
	r.Note("m", Outcome{Verdict: NotUp}, true)
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
		us[0].Replicas[0].Note("m", Outcome{Verdict: NotUp}, true)
		return &Plan{Pools: []*Pool{pool(us[0]), pool(us[1])}}, us[0].Replicas[0]
	}
	p, _ := plan()
	if diff := cmp.Diff([]string{"1:b", "0:a"}, walk([]Outcome{{Verdict: Slow}}, p.Pools...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0:a"}, walk([]Outcome{{Verdict: Slow}}, p.Pools[0])); diff != "" {
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
		r.Note(strconv.Itoa(i), Outcome{Verdict: Config}, false)
		if r.Ready(strconv.Itoa(i)) {
			t.Fatalf("the model %d is not hidden", i)
		}
	}
	if n := len(r.health.hidden); n > maxHidden {
		t.Errorf("%d models are hidden", n)
	}
}
