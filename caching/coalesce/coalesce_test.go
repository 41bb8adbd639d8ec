package coalesce

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var limits = Limits{Answer: 100, Total: 1000}

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
		leader, _ := group.Join(1, limits, func() {})
		if leader == nil {
			t.Fatal("the first request does not lead")
		}
		var all sync.WaitGroup
		follow := func(extra bool, want string) {
			_, f := group.Join(1, limits, func() {})
			if f == nil {
				t.Fatal("a request with the same key does not follow")
			}
			all.Go(func() {
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
		if leader, _ := group.Join(1, limits, func() {}); leader == nil {
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
			leader, _ := group.Join(0, limits, func() { stopped = true })
			var followers []*Follower[int, string]
			for range test.followers {
				_, f := group.Join(0, limits, nil)
				followers = append(followers, f)
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
			if next, _ := group.Join(0, limits, nil); (next != nil) != test.stopped {
				t.Errorf("the next request leads: %v", next != nil)
			}
		})
	}
}

func TestFollowersOfAnIncompleteAnswer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var group Group[int, string]
	join := func(key int) (leader *Leader[int, string], f *Follower[int, string]) {
		leader, _ = group.Join(key, limits, func() {})
		_, f = group.Join(key, limits, nil)
		return leader, f
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
	_, _, _, ok := leader.Answer()
	if _, _, err := f.All(ctx); !errors.Is(err, ErrNoAnswer) || !ok {
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

// An answer that does not fit is passed on: new requests cannot follow it and it is not stored, but everybody who reads it gets all of
// it, and at any time only little of it is in memory.
func TestAnswerThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		limits Limits
		others int64 // bytes that other leaders have recorded
	}{
		{"too long to be stored", Limits{Answer: 10, Total: 1 << 20}, 0},
		{"no room", Limits{Answer: 1 << 20, Total: 10}, 0},
		{"no room beside others", Limits{Answer: 1 << 20, Total: 1 << 20}, 1<<20 - 10},
		{"no memory", Limits{Answer: 1 << 20, Total: 1 << 20, Memory: new(account)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var group Group[int, string]
				group.Reserve(test.others, Limits{Total: test.others})
				leader, _ := group.Join(1, test.limits, func() {})
				_, follower := group.Join(1, test.limits, nil)
				_, whole := group.Join(1, test.limits, nil)
				leader.Begin("head")
				own := leader.OwnReader()
				var want strings.Builder
				var all sync.WaitGroup
				all.Go(func() {
					defer whole.Close()
					if _, _, err := whole.All(context.Background()); !errors.Is(err, ErrNoAnswer) {
						t.Errorf("All of an answer that is not kept returned %v", err)
					}
				})
				for name, f := range map[string]*Follower[int, string]{"the leader's client": own, "a follower": follower} {
					all.Go(func() {
						defer f.Close()
						if got, err := readAll(f, false); got != strings.ReplaceAll(want.String(), "X", "") || err != io.EOF {
							t.Errorf("%s got %d bytes, %v", name, len(got), err)
						}
					})
				}
				for i := range 200 {
					part := strings.Repeat(string(rune('a'+i%26)), 1+i*37)
					if want.WriteString(part); !leader.Write([]byte(part), false) {
						t.Fatal("Write failed")
					}
					leader.Write([]byte("XX"), true)
					want.WriteString("XX")
					if pending := group.PendingBytes() - test.others; pending > min(test.limits.Total, test.limits.Answer) {
						t.Fatalf("%d bytes are pending", pending)
					}
				}
				if next, _ := group.Join(1, test.limits, func() {}); next == nil {
					t.Error("a new request follows an answer that is not kept")
				}
				leader.Finish(true)
				if _, _, _, ok := leader.Answer(); ok {
					t.Error("an answer that is not kept may be stored")
				}
				leader.Close()
				all.Wait()
				if n := group.PendingBytes() - test.others; n != 0 {
					t.Errorf("%d bytes are pending at the end", n)
				}
				if a, ok := test.limits.Memory.(*account); ok && (a.held != 0 || a.most > 10) {
					t.Errorf("%d bytes of memory are held, once were %d", a.held, a.most)
				}
			})
		})
	}
}

// An account has 10 bytes.
type account struct{ held, most int64 }

func (a *account) Reserve(n int64) bool {
	if a.held+n > 10 {
		return false
	}
	a.held += n
	a.most = max(a.most, a.held)
	return true
}

func (a *account) Release(n int64) { a.held -= n }

// The leaders of a group never record more than the total, whenever they begin, and what they have recorded counts until it is read.
// An answer whose length is known is recorded in one piece. What does not fit is left to Write.
func TestExpect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		expect, pieces int
		pending        int64
	}{
		{"the length", 60, 1, 60},
		{"less", 10, 2, 80},
		{"more than an answer may have", 101, 2, 60},
		{"nothing", 0, 2, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var group Group[int, string]
			leader, _ := group.Join(1, limits, func() {})
			leader.Begin("head")
			leader.Expect(tt.expect)
			for _, part := range []string{strings.Repeat("a", 30), strings.Repeat("b", 30)} {
				if !leader.Write([]byte(part), false) {
					t.Fatal("interrupted")
				}
			}
			pieces := 0
			for _, p := range leader.pieces {
				if len(p.bytes) > 0 {
					pieces++
				}
			}
			if pending := group.PendingBytes(); pieces != tt.pieces || pending > tt.pending {
				t.Errorf("%d pieces, %d bytes", pieces, pending)
			}
			leader.Finish(true)
			if _, body, _, ok := leader.Answer(); !ok || string(body) != strings.Repeat("a", 30)+strings.Repeat("b", 30) {
				t.Errorf("%q, %v", body, ok)
			}
			if leader.Close(); group.PendingBytes() != 0 {
				t.Errorf("%d bytes are pending after Close", group.PendingBytes())
			}
		})
	}
}

func TestTotal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group Group[int, string]
		limits := Limits{Answer: 1 << 20, Total: 256 << 10}
		var leaders []*Leader[int, string]
		var readers []*Follower[int, string]
		var writing sync.WaitGroup
		for key := range 20 {
			leader, _ := group.Join(key, limits, func() {})
			leader.Begin("head")
			leaders, readers = append(leaders, leader), append(readers, leader.OwnReader())
			writing.Go(func() {
				for range 30 {
					leader.Write(make([]byte, 4<<10), false)
				}
				leader.Finish(true)
				leader.Close()
			})
		}
		synctest.Wait()
		if n := group.PendingBytes(); n > limits.Total || n < limits.Total/2 {
			t.Errorf("%d bytes are pending while nobody reads", n)
		}
		for i, f := range readers {
			var got int
			for {
				p, err := f.Next(context.Background(), true)
				if got += len(p); err != nil {
					break
				}
				if n := group.PendingBytes(); n > limits.Total {
					t.Fatalf("%d bytes are pending", n)
				}
			}
			f.Close()
			if got != 30*4<<10 {
				t.Errorf("the client of leader %d got %d bytes", i, got)
			}
		}
		writing.Wait()
		if n := group.PendingBytes(); n != 0 {
			t.Errorf("%d bytes are pending at the end", n)
		}
		_ = leaders
	})
}

// A client that reads nothing is cut off if it holds up another one, and only then.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		readers int // that read
		leaves  bool
		want    error
	}{
		{"others wait", 1, false, ErrTooSlow},
		{"it is alone", 0, false, nil},
		{"it leaves", 1, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var group Group[int, string]
				leader, _ := group.Join(1, Limits{Answer: 1, Total: 1}, func() {})
				leader.Begin("head")
				stalled := leader.OwnReader()
				var all sync.WaitGroup
				for range test.readers {
					_, f := group.Join(1, Limits{}, nil)
					all.Go(func() {
						defer f.Close()
						if got, err := readAll(f, true); got != "abc" || err != io.EOF {
							t.Errorf("a reader got %q, %v", got, err)
						}
					})
				}
				started := time.Now()
				all.Go(func() {
					for _, part := range []string{"a", "b", "c"} {
						leader.Write([]byte(part), false)
					}
					leader.Finish(true)
					leader.Close()
				})
				if p, err := stalled.Next(context.Background(), true); string(p) != "a" || err != nil {
					t.Fatalf("%q, %v", p, err)
				}
				time.Sleep(maxStall / 2)
				if !leader.Waiting() {
					t.Error("the leader does not wait")
				}
				if test.leaves {
					stalled.Close()
				}
				time.Sleep(maxStall)
				synctest.Wait()
				if leader.Waiting() != (test.readers == 0) {
					t.Errorf("the leader waits: %v", leader.Waiting())
				}
				if !test.leaves {
					got, err := readAll(stalled, true)
					if test.want != nil && (got != "" || !errors.Is(err, test.want)) || test.want == nil && (got != "bc" || err != io.EOF) {
						t.Errorf("the stalled reader got %q, %v", got, err)
					}
					stalled.Close()
				}
				all.Wait()
				if n := group.PendingBytes(); n != 0 || time.Since(started) > 2*maxStall {
					t.Errorf("%d bytes are pending after %s", n, time.Since(started))
				}
			})
		})
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var group Group[int, string]
		leader, _ := group.Join(1, Limits{}, func() {})
		leader.Begin("head")
		reader := leader.OwnReader()
		wrote := make(chan bool)
		go func() { leader.Write([]byte("a"), false); wrote <- leader.Write([]byte("b"), false) }()
		synctest.Wait()
		leader.Interrupt()
		if <-wrote {
			t.Error("Write succeeded although it was interrupted")
		}
		leader.Finish(false)
		leader.Close()
		if got, err := readAll(reader, true); got != "a" || err != io.ErrUnexpectedEOF {
			t.Errorf("the reader got %q, %v", got, err)
		}
	})
}
