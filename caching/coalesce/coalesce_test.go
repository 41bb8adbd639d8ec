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

func read(r *Follower[int, string], extra bool) (string, error) {
	var b strings.Builder
	for {
		p, err := r.Next(context.Background(), extra)
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
		f, leads := group.Join(1, 100, func() {})
		if !leads {
			t.Fatal("the first does not lead")
		}
		var all sync.WaitGroup
		follow := func(extra bool, want string) {
			f, leads := group.Join(1, 100, func() {})
			if leads {
				t.Fatal("the second leads")
			}
			all.Go(func() {
				r := f.Follow()
				defer r.Close()
				head, err := r.Head(context.Background())
				got, end := read(r, extra)
				if err != nil || head != "t" || got != want || end != io.EOF {
					t.Errorf("%q %v %v %v", got, head, err, end)
				}
			})
		}
		follow(true, "abXXc")
		synctest.Wait()
		f.Begin("t")
		f.Write([]byte("ab"), false)
		follow(false, "abc")
		synctest.Wait()
		f.Write([]byte("XX"), true)
		follow(false, "abc")
		synctest.Wait()
		f.Write([]byte("c"), false)
		f.Finish(true)
		follow(true, "abXXc") // it has finished, but is not closed
		all.Wait()
		if _, body, extra, ok := f.Answer(); string(body) != "abXXc" || len(extra) != 1 || !ok {
			t.Errorf("%q %v %v", body, extra, ok)
		}
		f.Close()
		if n := group.Pending(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
		if _, leads := group.Join(1, 100, func() {}); !leads {
			t.Error("a closed flight is followed")
		}
	})
}

func TestWhoStopsAFlight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		followers int
		leave     []string // who leaves, in turn
		stopped   bool
	}{
		{"the leader, alone", 0, []string{"leader"}, true},
		{"the leader, followed", 1, []string{"leader"}, false},
		{"a follower", 1, []string{"follower"}, false},
		{"both", 1, []string{"leader", "follower"}, true},
		{"both, the other way round", 1, []string{"follower", "leader"}, true},
		{"one of two", 2, []string{"leader", "follower"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var group Group[int, string]
			stopped := false
			f, _ := group.Join(0, 100, func() { stopped = true })
			var followers []*Follower[int, string]
			for range test.followers {
				f, _ := group.Join(0, 100, nil)
				followers = append(followers, f.Follow())
			}
			for _, who := range test.leave {
				if who == "leader" {
					f.Leave()
				} else {
					followers[0].Close()
					followers[0].Close()
					followers = followers[1:]
				}
			}
			if stopped != test.stopped {
				t.Errorf("stopped: %v", stopped)
			}
			if _, leads := group.Join(0, 100, nil); leads != test.stopped {
				t.Errorf("the next one leads: %v", leads)
			}
		})
	}
}

func TestFlightsThatFail(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var group Group[int, string]
	f, _ := group.Join(1, 100, func() {})
	g, _ := group.Join(1, 100, nil)
	f.Finish(false)
	if _, err := g.Follow().Head(ctx); !errors.Is(err, ErrNothing) {
		t.Errorf("before it began: %v", err)
	}
	f, _ = group.Join(2, 100, func() {})
	g, _ = group.Join(2, 100, nil)
	f.Begin("t")
	f.Write([]byte("a"), false)
	f.Finish(false)
	r := g.Follow()
	if got, err := read(r, true); got != "a" || err != io.ErrUnexpectedEOF {
		t.Errorf("after it began: %q %v", got, err)
	}
	if _, _, err := r.All(ctx); !errors.Is(err, ErrNothing) {
		t.Errorf("all: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	f, _ = group.Join(3, 100, func() {})
	g, _ = group.Join(3, 100, nil)
	if _, err := g.Follow().Head(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a follower that left: %v", err)
	}
	f.Begin("t")
	if _, err := g.Follow().Next(gone, true); !errors.Is(err, context.Canceled) {
		t.Errorf("a follower that left: %v", err)
	}
}

// What is longer than an entry may be is not kept, and nobody new can join; those who follow get more of it, up to a bound.
func TestFlightsAreBounded(t *testing.T) {
	t.Parallel()
	var group Group[int, string]
	f, _ := group.Join(1, 10, func() {})
	g, _ := group.Join(1, 10, nil)
	r := g.Follow()
	f.Begin("t")
	f.Write(make([]byte, 11), false)
	if _, leads := group.Join(1, 10, func() {}); !leads {
		t.Error("somebody joined a flight that outgrew its limit")
	}
	if _, _, _, ok := f.Answer(); ok {
		t.Error("it is to be kept")
	}
	if p, err := r.Next(context.Background(), true); len(p) != 11 || err != nil {
		t.Errorf("%d %v", len(p), err)
	}
	if f.Write(make([]byte, followedFactor*10), false) {
		t.Error("too much was written down")
	}
	if _, err := r.Next(context.Background(), true); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	own := f.Own() // the leader's client gets all that was written down, and the rest from the leader
	if p, err := own.Next(context.Background(), true); len(p) != 11 || err != nil {
		t.Errorf("%d %v", len(p), err)
	}
	if f.Forget(); group.Pending() != 0 {
		t.Errorf("%d bytes are held", group.Pending())
	}
	if f.Write([]byte("x"), false) {
		t.Error("more was written down")
	}
	f.Finish(true)
	f.Close()
	if n := group.Pending(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	alone, _ := group.Join(2, 10, func() {})
	alone.Begin("t")
	if alone.Write(make([]byte, 11), false) {
		t.Error("too much was written down for nobody")
	}
	if n := group.Pending(); n != 0 {
		t.Errorf("%d bytes are held for nobody", n)
	}
}
