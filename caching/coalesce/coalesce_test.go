package coalesce

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func readAll(f *Follower[int, string], extra bool) (string, error) {
	var b strings.Builder
	for {
		p, err := f.Next(context.Background(), extra)
		if err != nil {
			return b.String(), err
		}
		b.Write(p)
	}
}

func TestFollowersReadFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group Group[int, string]
		leader, leads := group.Join(1, 100, func() {})
		if !leads {
			t.Fatal("the first request does not lead")
		}
		var all sync.WaitGroup
		follow := func(extra bool, want string) {
			leader, leads := group.Join(1, 100, func() {})
			if leads {
				t.Fatal("a request with the same key does not follow")
			}
			all.Go(func() {
				f := leader.Follow()
				defer f.Close()
				head, err := f.Head(context.Background())
				got, end := readAll(f, extra)
				if err != nil || head != "head" || got != want || end != io.EOF {
					t.Errorf("head %q, %v; body %q, %v", head, err, got, end)
				}
			})
		}
		follow(true, "abXXc")
		synctest.Wait()
		leader.Begin("head")
		leader.Write([]byte("ab"), false)
		follow(false, "abc")
		synctest.Wait()
		leader.Write([]byte("XX"), true)
		follow(false, "abc")
		synctest.Wait()
		leader.Write([]byte("c"), false)
		leader.Finish(true)
		follow(true, "abXXc") // it has finished, but not closed
		all.Wait()
		if _, body, extra, ok := leader.Answer(); string(body) != "abXXc" || len(extra) != 1 || !ok {
			t.Errorf("Answer: %q, %v, %v", body, extra, ok)
		}
		leader.Close()
		if n := group.PendingBytes(); n != 0 {
			t.Errorf("%d bytes are pending after Close", n)
		}
		if _, leads := group.Join(1, 100, func() {}); !leads {
			t.Error("a request follows a leader that has closed")
		}
	})
}

func TestLeaderStopsWhenAllClientsHaveLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		followers int
		leave     []string // in this order
		stopped   bool
	}{
		{"the leader's client, without followers", 0, []string{"leader"}, true},
		{"the leader's client, with a follower", 1, []string{"leader"}, false},
		{"the follower", 1, []string{"follower"}, false},
		{"both", 1, []string{"leader", "follower"}, true},
		{"both, the follower first", 1, []string{"follower", "leader"}, true},
		{"the leader's client and one of two followers", 2, []string{"leader", "follower"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var group Group[int, string]
			stopped := false
			leader, _ := group.Join(0, 100, func() { stopped = true })
			var followers []*Follower[int, string]
			for range test.followers {
				leader, _ := group.Join(0, 100, nil)
				followers = append(followers, leader.Follow())
			}
			for _, who := range test.leave {
				if who == "leader" {
					leader.Leave()
				} else {
					followers[0].Close()
					followers[0].Close() // it counts once
					followers = followers[1:]
				}
			}
			if stopped != test.stopped {
				t.Errorf("stopped: %v", stopped)
			}
			if _, leads := group.Join(0, 100, nil); leads != test.stopped {
				t.Errorf("the next request leads: %v", leads)
			}
		})
	}
}

func TestFollowersOfAnIncompleteAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var group Group[int, string]
	join := func(key int) (leader *Leader[int, string], f *Follower[int, string]) {
		leader, _ = group.Join(key, 100, func() {})
		same, _ := group.Join(key, 100, nil)
		return leader, same.Follow()
	}

	leader, f := join(1)
	leader.Finish(false)
	if _, err := f.Head(ctx); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("the leader failed before the answer began: Head returned %v", err)
	}

	leader, f = join(2)
	leader.Begin("head")
	leader.Write([]byte("a"), false)
	leader.Finish(false)
	if got, err := readAll(f, true); got != "a" || err != io.ErrUnexpectedEOF {
		t.Errorf("the leader failed after the answer began: Next returned %q, %v", got, err)
	}
	if _, _, err := f.All(ctx); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("the leader failed after the answer began: All returned %v", err)
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	leader, f = join(3)
	if _, err := f.Head(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("the follower's context is canceled: Head returned %v", err)
	}
	leader.Begin("head")
	if _, err := f.Next(canceled, true); !errors.Is(err, context.Canceled) {
		t.Errorf("the follower's context is canceled: Next returned %v", err)
	}
}

// An answer that exceeds its limit is not stored, and new requests cannot follow it. Its followers get more of it, up to
// followedFactor.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	var group Group[int, string]
	leader, _ := group.Join(1, 10, func() {})
	same, _ := group.Join(1, 10, nil)
	f := same.Follow()
	leader.Begin("head")
	if !leader.Write(make([]byte, 11), false) {
		t.Error("an answer over its limit is not recorded for its follower")
	}
	if _, leads := group.Join(1, 10, func() {}); !leads {
		t.Error("a new request follows an answer over its limit")
	}
	if _, _, _, ok := leader.Answer(); ok {
		t.Error("an answer over its limit may be stored")
	}
	if p, err := f.Next(context.Background(), true); len(p) != 11 || err != nil {
		t.Errorf("the follower got %d bytes, %v", len(p), err)
	}
	if leader.Write(make([]byte, followedFactor*10), false) {
		t.Error("more than followedFactor times the limit was recorded")
	}
	if _, err := f.Next(context.Background(), true); err != io.ErrUnexpectedEOF {
		t.Errorf("the follower of an answer that is not recorded any further got %v", err)
	}
	own := leader.OwnReader() // the leader's client gets what was recorded, and the rest without this package
	if p, err := own.Next(context.Background(), true); len(p) != 11 || err != nil {
		t.Errorf("the leader's client got %d bytes, %v", len(p), err)
	}
	if leader.Discard(); group.PendingBytes() != 0 {
		t.Errorf("%d bytes are pending after Discard", group.PendingBytes())
	}
	if leader.Write([]byte("x"), false) {
		t.Error("recording went on after Discard")
	}
	leader.Finish(true)
	leader.Close()
	if n := group.PendingBytes(); n != 0 {
		t.Errorf("%d bytes are pending after Close", n)
	}
	alone, _ := group.Join(2, 10, func() {})
	alone.Begin("head")
	if alone.Write(make([]byte, 11), false) {
		t.Error("an answer over its limit is recorded without followers")
	}
	if n := group.PendingBytes(); n != 0 {
		t.Errorf("%d bytes are pending of an answer over its limit", n)
	}
}
