package replica

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Each case is what happens to a replica, step by step, and what it is afterwards.
func TestHealth(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	note := func(v router.Verdict) step {
		return func(r *Replica) { r.Report("m", router.Outcome{Verdict: v}, true) }
	}
	api := func(v router.Verdict) step {
		return func(r *Replica) { r.Report("m", router.Outcome{Verdict: v}, false) }
	}
	probe := func(s State) step { return func(r *Replica) { r.ReportProbe(s) } }
	after := func(d time.Duration) step { return func(*Replica) { <-time.After(d) } }
	markStuck := step(func(r *Replica) { r.MarkStuck() })
	trial := step(func(r *Replica) { r.startTrial() })
	for _, test := range []struct {
		name  string
		steps []step
		state State
		ready bool
	}{
		{"nothing", nil, Up, true},
		{"two failures", []step{note(router.Failed), note(router.Timeout)}, Up, true},
		{"three in a row", []step{note(router.Failed), note(router.Timeout), note(router.Failed)}, Open, false},
		{"two, an answer, and two", []step{note(router.Failed), note(router.Failed), note(router.OK), note(router.Failed), note(router.Failed)}, Up, true},
		{"five in 30 s, answers between", []step{note(router.Failed), note(router.OK), note(router.Failed), note(router.OK), note(router.Failed), note(router.OK), note(router.Failed), note(router.OK), note(router.Failed)}, Open, false},
		{"five in a longer time", []step{note(router.Failed), note(router.OK), note(router.Failed), note(router.OK), after(31 * time.Second), note(router.Failed), note(router.OK), note(router.Failed), note(router.OK), note(router.Failed)}, Up, true},
		{"overloaded is no failure", []step{note(router.Overloaded), note(router.Overloaded), note(router.Overloaded), note(router.Overloaded), note(router.Overloaded)}, Up, true},
		{"nor are client errors", []step{note(router.ClientError), note(router.Unsupported), note(router.ClientError), note(router.Adjustable)}, Up, true},
		{"connection refused", []step{note(router.Unreachable)}, Down, false},
		{"connection refused, and up again by a probe", []step{note(router.Unreachable), probe(Up)}, Up, true},
		{"connection refused, then loading", []step{note(router.Unreachable), probe(Loading)}, Loading, false},
		{"open, without a probe", []step{note(router.Failed), note(router.Failed), note(router.Failed), after(time.Hour)}, Open, false},
		{"half open by a probe", []step{note(router.Failed), note(router.Failed), note(router.Failed), probe(Up)}, HalfOpen, true},
		{"closed by an answer", []step{note(router.Failed), note(router.Failed), note(router.Failed), probe(Up), note(router.OK)}, Up, true},
		{"opened again by one failure", []step{note(router.Failed), note(router.Failed), note(router.Failed), probe(Up), note(router.Timeout)}, Open, false},
		{"a failure of an attempt that began before", []step{note(router.Failed), note(router.Failed), note(router.Failed), note(router.Failed), probe(Up)}, HalfOpen, true},
		{"a service, still open", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(4 * time.Second)}, Open, false},
		{"a service, after 5 s", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second)}, Open, true},
		{"a service, during its trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial}, HalfOpen, false},
		{"a service, whose trial has no result", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, after(5 * time.Second)}, HalfOpen, true},
		{"a service, open for longer after a failed trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, api(router.Failed), after(9 * time.Second)}, Open, false},
		{"a service, after its trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, api(router.OK)}, Up, true},
		{"a service that refuses connections", []step{api(router.Unreachable)}, Down, false},
		{"a service that refused connections a second ago", []step{api(router.Unreachable), after(time.Second)}, Down, true},
		{"stuck", []step{markStuck}, Stuck, false},
		{"stuck, while its probes succeed", []step{markStuck, probe(Up), after(4 * time.Second), probe(Up)}, Stuck, false},
		{"stuck, while it refuses requests", []step{markStuck, note(router.Overloaded), note(router.ClientError)}, Stuck, false},
		{"stuck, and the timeouts of earlier attempts", []step{markStuck, note(router.Timeout), note(router.Timeout), note(router.Timeout), after(5 * time.Second)}, Stuck, true},
		{"stuck, during its trial", []step{markStuck, after(5 * time.Second), trial}, Stuck, false},
		{"stuck, for longer after a failed trial", []step{markStuck, after(5 * time.Second), trial, note(router.Timeout), after(9 * time.Second)}, Stuck, false},
		{"stuck, after a failed trial and 10 s", []step{markStuck, after(5 * time.Second), trial, note(router.Timeout), after(10 * time.Second)}, Stuck, true},
		{"stuck, after its trial", []step{markStuck, after(5 * time.Second), trial, note(router.OK)}, Up, true},
		{"stuck, then restarted", []step{markStuck, note(router.Unreachable), probe(Up)}, Up, true},
		{"stuck after its circuit breaker tripped", []step{note(router.Failed), note(router.Failed), note(router.Failed), markStuck, probe(Up)}, Stuck, false},
		{"a model that it does not have", []step{note(router.Misconfigured)}, Up, false},
		{"a minute later", []step{note(router.Misconfigured), after(time.Minute)}, Up, true},
		{"after an answer", []step{note(router.Misconfigured), note(router.OK)}, Up, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &Replica{}
				for _, s := range test.steps {
					s(r)
				}
				if got := r.Status().State; got != test.state {
					t.Errorf("it is %s, want %s", got, test.state)
				}
				if got := r.Ready("m"); got != test.ready {
					t.Errorf("Ready() = %v", got)
				}
				if !r.Ready("other") && r.Status().State == Up {
					t.Error("another model is not ready")
				}
			})
		})
	}
}

// A circuit breaker that trips again and again is open for 5 s, doubled up to 60 s.
func TestCircuitBreakerOpensForLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{}
		fail := func() { r.Report("m", router.Outcome{Verdict: router.Failed}, true) }
		fail()
		fail()
		var got []time.Duration
		for range 6 {
			fail()
			got = append(got, r.NextProbe())
			r.ReportProbe(Up)
		}
		if diff := cmp.Diff([]time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Changes are each time that the replica becomes healthy or unhealthy, and each hidden model, once.
func TestChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{}
		var got []string
		tell := func(c Change, ok bool) {
			switch {
			case !ok:
			case c.HiddenModel != "":
				got = append(got, "hidden "+c.HiddenModel)
			case c.Healthy:
				got = append(got, "healthy "+c.State.String())
			default:
				got = append(got, "unhealthy "+c.State.String())
			}
		}
		for _, v := range []router.Verdict{router.Unreachable, router.Unreachable, router.OK, router.Failed, router.Failed, router.Failed, router.Misconfigured, router.Misconfigured} {
			tell(r.Report("m", router.Outcome{Verdict: v}, true))
		}
		up := r.WhenReady()
		select {
		case <-up:
			t.Error("ready while its circuit is open")
		default:
		}
		tell(r.ReportProbe(Up))
		<-up
		tell(r.Report("m", router.Outcome{Verdict: router.OK}, true))
		tell(r.Report("m", router.Outcome{Verdict: router.Misconfigured}, true))
		want := []string{"unhealthy down", "healthy up", "unhealthy open", "hidden m", "healthy half_open", "hidden m"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestProbingIsClaimedOnce(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	if r.StartProbing() {
		t.Error("a replica that is up is probed")
	}
	r.Report("m", router.Outcome{Verdict: router.Unreachable}, true)
	if !r.StartProbing() || r.StartProbing() {
		t.Error("not claimed, or claimed twice")
	}
	r.StopProbing()
	if !r.StartProbing() {
		t.Error("not claimed again")
	}
}

func BenchmarkReady(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.Ready("m")
		r.Report("m", router.Outcome{}, true)
	}
}

// However many models clients invent, few hidden ones are kept.
func TestHiddenModelsAreBounded(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	for i := range 10 * maxHiddenModels {
		r.Report(strconv.Itoa(i), router.Outcome{Verdict: router.Misconfigured}, false)
		if r.Ready(strconv.Itoa(i)) {
			t.Fatalf("the model %d is not hidden", i)
		}
	}
	if n := len(r.health.hidden); n > maxHiddenModels {
		t.Errorf("%d models are hidden", n)
	}
}
