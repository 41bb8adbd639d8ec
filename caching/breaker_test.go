package caching

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The breaker opens after three failures in a row, for longer each time that its one attempt fails too.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		failed := errors.New("failed")
		for _, err := range []error{failed, failed, nil, failed, failed} {
			b.record(err)
		}
		if !b.allow() || b.isOpen() {
			t.Error("it is open without three failures in a row")
		}
		openFor := time.Second
		for range 8 {
			b.record(failed)
			if b.allow() || !b.isOpen() {
				t.Fatal("it is not open after a failure")
			}
			time.Sleep(openFor - time.Nanosecond)
			if b.allow() {
				t.Fatalf("it is open for less than %s", openFor)
			}
			time.Sleep(time.Nanosecond)
			if first, second := b.allow(), b.allow(); !first || second {
				t.Fatalf("half-open after %s, it allows %v and then %v; want one attempt", openFor, first, second)
			}
			openFor = min(2*openFor, 30*time.Second)
		}
		b.record(nil)
		if b.isOpen() || !b.allow() {
			t.Error("it is still open after a success")
		}
	})
}
