package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A testAttempt is an attempt that makes no progress by itself.
type testAttempt struct {
	whole   bool
	prefill time.Duration
}

func (a *testAttempt) Streams() bool          { return !a.whole }
func (a *testAttempt) Prefill() time.Duration { return a.prefill }
func (*testAttempt) Abort()                   {}

// Each case is what attempts do, step by step, a second apart, and for how long there was silence then.
func TestSilence(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	a, b, c := &testAttempt{prefill: 2 * time.Second}, &testAttempt{prefill: time.Second}, &testAttempt{whole: true}
	begin := func(a Attempt) step { return func(r *Replica) { r.Begin(a) } }
	finish := func(a Attempt) step { return func(r *Replica) { r.Finish(a) } }
	progress, look, wait := (*Replica).Progress, step(func(r *Replica) { r.Silence(0) }), step(func(*Replica) {})
	type result struct {
		Silent, Prefill time.Duration
		Attempts, Old   int
	}
	for _, test := range []struct {
		name  string
		steps []step
		want  result
	}{
		{"one that waits", []step{begin(a), wait}, result{2 * time.Second, 2 * time.Second, 1, 1}},
		{"another that came later", []step{begin(a), begin(b)}, result{2 * time.Second, 3 * time.Second, 2, 1}},
		{"progress nobody has dated", []step{begin(a), progress}, result{0, 2 * time.Second, 1, 1}},
		{"progress, dated by who came next", []step{begin(a), progress, begin(b), wait}, result{2 * time.Second, 3 * time.Second, 2, 2}},
		{"progress, dated by who looked", []step{begin(a), progress, look, wait, wait}, result{3 * time.Second, 2 * time.Second, 1, 1}},
		{"an idle replica is not silent", []step{begin(a), finish(a), wait, wait, begin(b)}, result{time.Second, time.Second, 1, 0}},
		{"an answer that comes whole", []step{begin(c), wait}, result{2 * time.Second, 0, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &Replica{}
				for _, s := range test.steps {
					s(r)
					<-time.After(time.Second)
				}
				s := r.Silence(2 * time.Second)
				got := result{time.Since(s.Since), s.Prefill(), len(s.Attempts), len(s.Old)}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Three silent streams prove that a replica is stuck; answers that come whole do not, however many.
func TestSilenceIsConclusive(t *testing.T) {
	t.Parallel()
	stream, whole := &testAttempt{}, &testAttempt{whole: true}
	for _, test := range []struct {
		name string
		old  []Attempt
		want bool
	}{
		{"none", nil, false},
		{"two streams", []Attempt{stream, stream}, false},
		{"three streams", []Attempt{stream, stream, stream}, true},
		{"answers that come whole", []Attempt{stream, stream, whole, whole, whole}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := (Silence{Old: test.old}).IsConclusive(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestStuckCheckIsClaimedOnce(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	if r.StartStuckCheck() {
		t.Error("an idle replica is checked")
	}
	r.Begin(&testAttempt{})
	if !r.StartStuckCheck() || r.StartStuckCheck() {
		t.Error("not claimed, or claimed twice")
	}
	r.StopStuckCheck()
	if !r.StartStuckCheck() {
		t.Error("not claimed again")
	}
	r.StopStuckCheck()
	r.MarkStuck()
	if r.StartStuckCheck() {
		t.Error("a replica that is known to be stuck is checked")
	}
}

// What a stream pays for each read, and a request for being counted.
func BenchmarkProgress(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.Progress()
	}
}

func BenchmarkBeginFinish(b *testing.B) {
	r, a := &Replica{}, &testAttempt{}
	b.ReportAllocs()
	for b.Loop() {
		r.Begin(a)
		r.Progress()
		r.Finish(a)
	}
}
