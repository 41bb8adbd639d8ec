package reqbody

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A sender sends pieces, each after a pause, until it is stopped.
type sender struct {
	pieces  []int
	pause   time.Duration
	stopped atomic.Bool
	stop    chan struct{}
}

func (s *sender) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.pause):
	case <-s.stop:
		return 0, io.ErrClosedPipe
	}
	n := min(s.pieces[0], len(p))
	if s.pieces[0] -= n; s.pieces[0] == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *sender) Close() error { return nil }

func (s *sender) Unwrap() http.ResponseWriter { return nil }

func (s *sender) StopReading() {
	if !s.stopped.Swap(true) {
		close(s.stop)
	}
}

func repeated(n, times int) (list []int) {
	for range times {
		list = append(list, n)
	}
	return list
}

// Bodies that stall are ended, all others are read, however many there are at once.
func TestUploads(t *testing.T) {
	tests := []struct {
		name    string
		pieces  []int
		pause   time.Duration
		stalled bool
		after   time.Duration // when it ends
	}{
		{"at once", []int{500}, 0, false, 0},
		{"late", []int{500}, 29 * time.Second, false, 29 * time.Second},
		{"never", []int{1}, time.Hour, true, stallTimeout},
		{"one byte a second", repeated(1, 10_000), time.Second, true, stallTimeout},
		{"slow but steady", repeated(200, 600), time.Second, false, 10 * time.Minute},
		{"a large piece, then nothing", []int{100_000, 1}, 31 * time.Second, true, stallTimeout},
		{"fast, then nothing", append(repeated(1000, 20), repeated(1, 100)...), 2 * time.Second, true, 3 * stallTimeout},
	}
	synctest.Test(t, func(t *testing.T) {
		var uploads Uploads
		for _, test := range tests {
			go func() {
				began := time.Now()
				from := &sender{pieces: test.pieces, pause: test.pause, stop: make(chan struct{})}
				u := &upload{body: from, from: from}
				uploads.watch(u, began)
				_, err := io.Copy(io.Discard, u)
				uploads.end(u)
				took := time.Since(began)
				if u.stalled.Load() != test.stalled || (err != nil) != test.stalled || took != test.after {
					t.Errorf("%s: stalled %t after %v with %v, want %t after %v", test.name, u.stalled.Load(), took, err, test.stalled, test.after)
				}
			}()
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		uploads.mu.Lock()
		defer uploads.mu.Unlock()
		if uploads.first != nil || uploads.last != nil || uploads.scheduled {
			t.Error("something is still watched")
		}
	})
}

// The list holds what is watched, in whichever order it ends.
func TestUploadsList(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}, {0, 2, 1}} {
		synctest.Test(t, func(t *testing.T) {
			var uploads Uploads
			all := []*upload{{}, {}, {}}
			for _, u := range all {
				uploads.watch(u, time.Now())
			}
			for left, i := range order {
				uploads.end(all[i])
				uploads.end(all[i])
				n := 0
				for u := uploads.first; u != nil; u = u.next {
					n++
				}
				if n != 2-left {
					t.Errorf("%v: %d are watched, want %d", order, n, 2-left)
				}
			}
		})
	}
}
