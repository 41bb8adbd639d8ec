package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLifeEnds(t *testing.T) {
	errWhy := errors.New("why")
	for _, tt := range []struct {
		name     string
		end      func(l *life, leave context.CancelCauseFunc)
		err, why error
	}{
		{"by its own", func(l *life, _ context.CancelCauseFunc) { l.end(errWhy) }, context.Canceled, errWhy},
		{"because the client left", func(_ *life, leave context.CancelCauseFunc) { leave(errWhy) }, context.Canceled, errWhy},
		{"the first cause counts", func(l *life, leave context.CancelCauseFunc) { l.end(errWhy); l.end(errTotal); leave(errTotal) }, context.Canceled, errWhy},
		{"because it is over", func(l *life, _ context.CancelCauseFunc) { l.close() }, context.Canceled, context.Canceled},
		{"by the client's deadline", func(*life, context.CancelCauseFunc) { <-time.After(time.Hour) }, context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				client, leave := context.WithCancelCause(bounded)
				defer leave(nil)
				l := new(life)
				l.begin(client)
				child, stop := context.WithCancel(l)
				defer stop()
				early := l.Done()
				calls := 0
				l.AfterFunc(func() { calls++ })
				if !l.AfterFunc(func() { t.Error("called, though it was taken back") })() {
					t.Error("it was taken back too late")
				}
				if l.Err() != nil || l.cause() != nil || child.Err() != nil {
					t.Fatal("over before its end")
				}
				tt.end(l, leave)
				synctest.Wait()
				if l.Err() != tt.err || l.cause() != tt.why || child.Err() != tt.err {
					t.Errorf("ended with %v, because of %v, its child with %v; want %v, %v", l.Err(), l.cause(), child.Err(), tt.err, tt.why)
				}
				<-early
				<-l.Done()
				if stop := l.AfterFunc(func() { calls++ }); stop() {
					t.Error("what is called at once was taken back")
				}
				synctest.Wait()
				if calls != 2 {
					t.Errorf("%d calls at the end, want 2", calls)
				}
			})
		})
	}
}

// Whoever asks right when the client has left, is told.
func TestLifeKnowsAtOnce(t *testing.T) {
	t.Parallel()
	for range 100 {
		client, leave := context.WithCancel(t.Context())
		l := new(life)
		l.begin(client)
		leave()
		if l.Err() == nil {
			t.Fatal("the client has left, and it goes on")
		}
	}
}

func TestUnderWay(t *testing.T) {
	t.Parallel()
	var u underWay
	all := make([]*attempt, 5)
	for i := range all {
		all[i] = new(attempt)
		all[i].life.begin(t.Context())
		u.enter(all[i])
	}
	for _, i := range []int{4, 0, 2} { // the last, the first, one in between
		u.leave(all[i])
	}
	u.end()
	u.leave(all[1])
	late := new(attempt)
	late.life.begin(t.Context())
	u.enter(late)
	for i, a := range append(all, late) {
		if ended, want := a.life.cause() == errDraining, i == 1 || i == 3 || i == 5; ended != want {
			t.Errorf("attempt %d is ended: %t, want %t", i, ended, want)
		}
	}
	u.leave(all[3])
	u.leave(late)
	if u.first != nil {
		t.Error("somebody is left")
	}
}
