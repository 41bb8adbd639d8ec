package router

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An occupant is an attempt of a test.
type occupant struct {
	mute    bool
	prefill time.Duration
}

func (o *occupant) Mute() bool             { return o.mute }
func (o *occupant) Prefill() time.Duration { return o.prefill }
func (*occupant) Stop()                    {}

// Each case is what attempts do, step by step, a second apart, and for how long there was silence then.
func TestSilence(t *testing.T) {
	t.Parallel()
	type step func(*Replica)
	a, b, c := &occupant{prefill: 2 * time.Second}, &occupant{prefill: time.Second}, &occupant{mute: true}
	enter := func(o Occupant) step { return func(r *Replica) { r.Enter(o) } }
	leave := func(o Occupant) step { return func(r *Replica) { r.Leave(o) } }
	stir, listen, wait := (*Replica).Stir, step(func(r *Replica) { r.Listen(0) }), step(func(*Replica) {})
	type result struct {
		Silent, Prefill time.Duration
		Present, Old    int
	}
	for _, test := range []struct {
		name  string
		steps []step
		want  result
	}{
		{"one that waits", []step{enter(a), wait}, result{2 * time.Second, 2 * time.Second, 1, 1}},
		{"another that came later", []step{enter(a), enter(b)}, result{2 * time.Second, 3 * time.Second, 2, 1}},
		{"progress nobody has dated", []step{enter(a), stir}, result{0, 2 * time.Second, 1, 1}},
		{"progress, dated by who came next", []step{enter(a), stir, enter(b), wait}, result{2 * time.Second, 3 * time.Second, 2, 2}},
		{"progress, dated by who listened", []step{enter(a), stir, listen, wait, wait}, result{3 * time.Second, 2 * time.Second, 1, 1}},
		{"an idle replica is not silent", []step{enter(a), leave(a), wait, wait, enter(b)}, result{time.Second, time.Second, 1, 0}},
		{"one that gives no sign", []step{enter(c), wait}, result{2 * time.Second, 0, 1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &Replica{}
				for _, s := range test.steps {
					s(r)
					<-time.After(time.Second)
				}
				s := r.Listen(2 * time.Second)
				got := result{time.Since(s.Since), s.Prefill(), len(s.Present), len(s.Old)}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Three streams that wait in vain damn a replica; answers that come whole do not, however many.
func TestDamning(t *testing.T) {
	t.Parallel()
	stream, whole := &occupant{}, &occupant{mute: true}
	for _, test := range []struct {
		name string
		old  []Occupant
		want bool
	}{
		{"nobody", nil, false},
		{"two streams", []Occupant{stream, stream}, false},
		{"three streams", []Occupant{stream, stream, stream}, true},
		{"answers that come whole", []Occupant{stream, stream, whole, whole, whole}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := (Silence{Old: test.old}).Damning(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestSuspectIsClaimedOnce(t *testing.T) {
	t.Parallel()
	r := &Replica{}
	if r.Suspect() {
		t.Error("an idle one is suspected")
	}
	r.Enter(&occupant{})
	if !r.Suspect() || r.Suspect() {
		t.Error("not claimed, or claimed twice")
	}
	r.Acquit()
	if !r.Suspect() {
		t.Error("not claimed again")
	}
	r.Acquit()
	r.Wedged()
	if r.Suspect() {
		t.Error("what is known is suspected")
	}
}

// What a stream pays for each read, and a request for being counted.
func BenchmarkStir(b *testing.B) {
	r := &Replica{}
	b.ReportAllocs()
	for b.Loop() {
		r.Stir()
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	r, o := &Replica{}, &occupant{}
	b.ReportAllocs()
	for b.Loop() {
		r.Enter(o)
		r.Stir()
		r.Leave(o)
	}
}
