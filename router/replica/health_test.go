package replica

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Each case is a sequence of events at a replica, and the state it should lead to.
func TestHealth(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	local := func(v router.Verdict) step {
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
		{"no events", nil, Up, true},
		{"two failures", []step{local(router.Failed), local(router.Timeout)}, Up, true},
		{"three in a row", []step{local(router.Failed), local(router.Timeout), local(router.Failed)}, Open, false},
		{"two, then an answer, then two", []step{local(router.Failed), local(router.Failed), local(router.OK), local(router.Failed), local(router.Failed)}, Up, true},
		{"five in 30 s, with answers in between", []step{local(router.Failed), local(router.OK), local(router.Failed), local(router.OK), local(router.Failed), local(router.OK), local(router.Failed), local(router.OK), local(router.Failed)}, Open, false},
		{"five in a longer time", []step{local(router.Failed), local(router.OK), local(router.Failed), local(router.OK), after(31 * time.Second), local(router.Failed), local(router.OK), local(router.Failed), local(router.OK), local(router.Failed)}, Up, true},
		{"overloaded is not a failure", []step{local(router.Overloaded), local(router.Overloaded), local(router.Overloaded), local(router.Overloaded), local(router.Overloaded)}, Up, true},
		{"client errors are not failures", []step{local(router.ClientError), local(router.Unsupported), local(router.ClientError), local(router.Adjustable)}, Up, true},
		{"connection refused", []step{local(router.Unreachable)}, Down, false},
		{"connection refused, and up again by a probe", []step{local(router.Unreachable), probe(Up)}, Up, true},
		{"connection refused, then loading", []step{local(router.Unreachable), probe(Loading)}, Loading, false},
		{"open, not probed", []step{local(router.Failed), local(router.Failed), local(router.Failed), after(time.Hour)}, Open, false},
		{"half-open by a probe", []step{local(router.Failed), local(router.Failed), local(router.Failed), probe(Up)}, HalfOpen, true},
		{"closed by an answer", []step{local(router.Failed), local(router.Failed), local(router.Failed), probe(Up), local(router.OK)}, Up, true},
		{"opened again by one failure", []step{local(router.Failed), local(router.Failed), local(router.Failed), probe(Up), local(router.Timeout)}, Open, false},
		{"open, and a failure of an earlier attempt", []step{local(router.Failed), local(router.Failed), local(router.Failed), local(router.Failed), probe(Up)}, HalfOpen, true},
		{"a service, still open", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(4 * time.Second)}, Open, false},
		{"a service, after 5 s", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second)}, Open, true},
		{"a service, during its trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial}, HalfOpen, false},
		{"a service, whose trial has no result", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, after(5 * time.Second)}, HalfOpen, true},
		{"a service, open for longer after a failed trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, api(router.Failed), after(9 * time.Second)}, Open, false},
		{"a service, after its trial", []step{api(router.Failed), api(router.Failed), api(router.Failed), after(5 * time.Second), trial, api(router.OK)}, Up, true},
		{"a service that refuses a connection", []step{api(router.Unreachable)}, Down, false},
		{"a service that refused a connection a second ago", []step{api(router.Unreachable), after(time.Second)}, Down, true},
		{"stuck", []step{markStuck}, Stuck, false},
		{"stuck, while its probes succeed", []step{markStuck, probe(Up), after(4 * time.Second), probe(Up)}, Stuck, false},
		{"stuck, while it refuses requests", []step{markStuck, local(router.Overloaded), local(router.ClientError)}, Stuck, false},
		{"stuck, and the timeouts of earlier attempts", []step{markStuck, local(router.Timeout), local(router.Timeout), local(router.Timeout), after(5 * time.Second)}, Stuck, true},
		{"stuck, during its trial", []step{markStuck, after(5 * time.Second), trial}, Stuck, false},
		{"stuck, for longer after a failed trial", []step{markStuck, after(5 * time.Second), trial, local(router.Timeout), after(9 * time.Second)}, Stuck, false},
		{"stuck, after a failed trial and 10 s", []step{markStuck, after(5 * time.Second), trial, local(router.Timeout), after(10 * time.Second)}, Stuck, true},
		{"stuck, after its trial", []step{markStuck, after(5 * time.Second), trial, local(router.OK)}, Up, true},
		{"stuck, then restarted", []step{markStuck, local(router.Unreachable), probe(Up)}, Up, true},
		{"stuck after its circuit breaker tripped", []step{local(router.Failed), local(router.Failed), local(router.Failed), markStuck, probe(Up)}, Stuck, false},
		{"a missing model", []step{local(router.Misconfigured)}, Up, false},
		{"a missing model, a minute later", []step{local(router.Misconfigured), after(time.Minute)}, Up, true},
		{"a missing model, after an answer", []step{local(router.Misconfigured), local(router.OK)}, Up, true},
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

// A circuit breaker that trips repeatedly opens for 5 s, doubling up to 60 s.
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

// A change is reported once each time the replica becomes healthy or unhealthy, and once for each hidden model.
func TestChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &Replica{}
		var got []string
		note := func(c Change, ok bool) {
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
			note(r.Report("m", router.Outcome{Verdict: v}, true))
		}
		up := r.WhenReady()
		select {
		case <-up:
			t.Error("ready while the circuit breaker is open")
		default:
		}
		note(r.ReportProbe(Up))
		<-up
		note(r.Report("m", router.Outcome{Verdict: router.OK}, true))
		note(r.Report("m", router.Outcome{Verdict: router.Misconfigured}, true))
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
		t.Error("StartProbing claimed a replica that is up")
	}
	r.Report("m", router.Outcome{Verdict: router.Unreachable}, true)
	if !r.StartProbing() || r.StartProbing() {
		t.Error("StartProbing did not claim the task, or claimed it twice")
	}
	r.StopProbing()
	if !r.StartProbing() {
		t.Error("StartProbing did not claim the released task")
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

// Clients can invent any number of models, so the number of hidden models is bounded.
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
