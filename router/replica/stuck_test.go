package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A testAttempt is an attempt that makes no progress on its own.
type testAttempt struct {
	whole    bool
	prefill  time.Duration
	contents int64
}

func (a *testAttempt) Streams() bool          { return !a.whole }
func (a *testAttempt) Prefill() time.Duration { return a.prefill }
func (a *testAttempt) Contents() int64        { return a.contents }
func (*testAttempt) Abort()                   {}

// Each case is a sequence of events, a second apart, and the silence that it should lead to.
func TestSilence(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	a, b, c := &testAttempt{prefill: 2 * time.Second}, &testAttempt{prefill: time.Second}, &testAttempt{whole: true}
	begin := func(a Attempt) step { return func(r *Replica) { r.Begin(a) } }
	finish := func(a Attempt) step { return func(r *Replica) { r.Finish(a) } }
	progress, read, wait := (*Replica).Progress, step(func(r *Replica) { r.Silence(0) }), step(func(*Replica) {})
	type result struct {
		Silent, Prefill time.Duration
		Attempts, Old   int
	}
	for _, test := range []struct {
		name  string
		steps []step
		want  result
	}{
		{"one attempt", []step{begin(a), wait}, result{2 * time.Second, 2 * time.Second, 1, 1}},
		{"a later attempt", []step{begin(a), begin(b)}, result{2 * time.Second, 3 * time.Second, 2, 1}},
		{"progress without an update", []step{begin(a), progress}, result{0, 2 * time.Second, 1, 1}},
		{"progress, updated by the next attempt", []step{begin(a), progress, begin(b), wait}, result{2 * time.Second, 3 * time.Second, 2, 2}},
		{"progress, updated by Silence", []step{begin(a), progress, read, wait, wait}, result{3 * time.Second, 2 * time.Second, 1, 1}},
		{"an idle replica is not silent", []step{begin(a), finish(a), wait, wait, begin(b)}, result{time.Second, time.Second, 1, 0}},
		{"an answer that is not a stream", []step{begin(c), wait}, result{2 * time.Second, 0, 1, 1}},
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

// Three silent streams prove that a replica is stuck. Answers that are not streams do not, however many there are.
func TestSilenceIsConclusive(t *testing.T) {
	t.Parallel()
	stream, whole := &testAttempt{}, &testAttempt{whole: true}
	for _, test := range []struct {
		name string
		old  []Attempt
		want bool
	}{
		{"no attempts", nil, false},
		{"two streams", []Attempt{stream, stream}, false},
		{"three streams", []Attempt{stream, stream, stream}, true},
		{"other answers", []Attempt{stream, stream, whole, whole, whole}, false},
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
		t.Error("StartStuckCheck claimed an idle replica")
	}
	r.Begin(&testAttempt{})
	if !r.StartStuckCheck() || r.StartStuckCheck() {
		t.Error("StartStuckCheck did not claim the task, or claimed it twice")
	}
	r.StopStuckCheck()
	if !r.StartStuckCheck() {
		t.Error("StartStuckCheck did not claim the released task")
	}
	r.StopStuckCheck()
	r.MarkStuck()
	if r.StartStuckCheck() {
		t.Error("StartStuckCheck claimed a replica that is known to be stuck")
	}
}

// The content of a stream counts while it is in flight and afterwards, but once.
func TestContentsOfAllStreams(t *testing.T) {
	t.Parallel()
	r, first, second := &Replica{}, &testAttempt{contents: 3}, &testAttempt{}
	r.Begin(first)
	r.Begin(second)
	second.contents = 4
	if got := r.Contents(); got != 7 {
		t.Errorf("in flight: %d", got)
	}
	r.Finish(first)
	r.Finish(first)
	if got := r.Contents(); got != 7 {
		t.Errorf("after the first: %d", got)
	}
}

// BenchmarkProgress measures the cost of each read of a stream.
func BenchmarkProgress(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.Progress()
	}
}

// BenchmarkBeginFinish measures the cost of each attempt.
func BenchmarkBeginFinish(b *testing.B) {
	r, a := &Replica{}, &testAttempt{}
	b.ReportAllocs()
	for b.Loop() {
		r.Begin(a)
		r.Progress()
		r.Finish(a)
	}
}
