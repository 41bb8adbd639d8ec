package caching

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A server that fails three times in a row is left alone, for longer each time that it fails again.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Rest
		failed := errors.New("failed")
		r.Judge(failed)
		r.Judge(failed)
		r.Judge(nil)
		r.Judge(failed)
		r.Judge(failed)
		if !r.Open() || r.Resting() {
			t.Error("it rests though no three failures came in a row")
		}
		pause := time.Second
		for range 8 {
			r.Judge(failed)
			if r.Open() || !r.Resting() {
				t.Fatal("it does not rest")
			}
			time.Sleep(pause - time.Nanosecond)
			if r.Open() {
				t.Fatalf("it rests for less than %s", pause)
			}
			time.Sleep(time.Nanosecond)
			if first, second := r.Open(), r.Open(); !first || second {
				t.Fatalf("after %s exactly one is to find out", pause)
			}
			pause = min(2*pause, 30*time.Second)
		}
		r.Judge(nil)
		if r.Resting() || !r.Open() {
			t.Error("it rests though it works again")
		}
	})
}

// Who follows a flight that is not made learns where the answer is; who comes later leads.
func TestRefer(t *testing.T) {
	var flights Flights
	f, leads := flights.Join(Key{1}, 100, func() {})
	follower, follows := flights.Join(Key{1}, 100, func() {})
	if !leads || follows {
		t.Fatal(leads, follows)
	}
	if _, ok := follower.Referred(); ok {
		t.Error("it is referred before it was")
	}
	reader := follower.Follow()
	defer reader.Close()
	f.Refer(Match{Key{2}, 0.97})
	if _, err := reader.Head(t.Context()); !errors.Is(err, ErrAlone) {
		t.Errorf("%v", err)
	}
	if m, ok := follower.Referred(); !ok || m != (Match{Key{2}, 0.97}) {
		t.Errorf("%v %v", m, ok)
	}
	if _, leads := flights.Join(Key{1}, 100, func() {}); !leads || flights.Landed() != 1 || flights.Pending() != 0 {
		t.Error("the flight is still there")
	}
}
