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
