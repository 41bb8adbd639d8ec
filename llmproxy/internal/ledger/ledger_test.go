package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
)

// onDisk is what a reader of the file finds, whatever waits in memory.
func onDisk(t *testing.T, l *Ledger) (requests int64) {
	t.Helper()
	l.writing.Lock()
	open := l.file.db != nil
	l.writing.Unlock()
	if !open {
		return 0
	}
	err := l.read(func(tx *bbolt.Tx) {
		for _, d := range readDays(tx, 0, dayOf(time.Now())) {
			if err := readDay(tx, d, func(_ rowID, s Sums) { requests += s.Requests }); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return requests
}

func TestUseIsWrittenWithinASecond(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		l := open(t, path)
		for i := range int64(3) {
			l.Add(Usage{At: time.Now(), Sums: Sums{Requests: 1}})
			if got := onDisk(t, l); got != i {
				t.Errorf("%d requests are on the disk at once, not %d", got, i)
			}
			<-time.After(time.Second)
			if got := onDisk(t, l); got != i+1 {
				t.Errorf("%d requests are on the disk after a second, not %d", got, i+1)
			}
		}
	})
}

// A configuration that is only validated makes a ledger, too.
func TestNothingIsTouchedUntilItIsNeeded(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if err := New(Config{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := open(t, path)
	value := []byte("one")
	l.Save("keys", "a", value)
	copy(value, "two") // the caller's again
	l.Save("keys", "b", []byte("old"))
	l.Save("keys", "empty", []byte{})
	l.Save("other", "a", []byte("elsewhere"))
	l.Save("keys", "gone", []byte("x"))
	if err := l.SaveNow("keys", "b", []byte("new")); err != nil {
		t.Fatal(err)
	}
	l.Delete("keys", "gone")
	l.Delete("keys", "never there")
	if err := l.SaveNow("keys", "revoked", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := l.SaveNow("keys", "revoked", nil); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "one", "b": "new", "empty": ""}
	if diff := cmp.Diff(want, saved(t, l, "keys")); diff != "" {
		t.Error(diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if diff := cmp.Diff(want, saved(t, again, "keys")); diff != "" {
		t.Error("opened again:", diff)
	}
	if diff := cmp.Diff(map[string]string{}, saved(t, again, "unknown")); diff != "" {
		t.Error(diff)
	}
	enough := errors.New("enough")
	calls := 0
	err := again.Load("keys", func(string, []byte) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

// A name that the file refuses would keep all that is written with it from being written.
func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	var reports []error
	l := New(Config{Path: newPath(t), Report: func(err error) { reports = append(reports, err) }})
	l.Add(Usage{At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	for _, name := range []string{"", strings.Repeat("x", maxEntryName+1)} {
		if l.SaveNow("b", name, nil) == nil || l.SaveNow(name, "k", nil) == nil {
			t.Errorf("a name of %d bytes was taken", len(name))
		}
		l.Save("b", name, []byte("x"))
	}
	if got := requests(t, l); got != 1 || len(reports) != 2 {
		t.Errorf("%d requests, reports %v", got, reports)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// While another process has the file, or the disk is full, what is to be written waits, and is told of once.
func TestWaitsForAFileThatCannotBeUsed(t *testing.T) {
	for _, test := range []struct {
		name  string
		block func(t *testing.T, path string) (unblock func())
		want  string
	}{
		{"in use", func(t *testing.T, path string) func() {
			first := New(Config{Path: path})
			if err := first.SaveNow("b", "first", []byte("x")); err != nil {
				t.Fatal(err)
			}
			return func() { first.Close() }
		}, "is in use by another process"},
		{"no folder", func(t *testing.T, path string) func() {
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(filepath.Dir(path)) }
		}, "not a directory"},
	} {
		path := newPath(t)
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unblock := test.block(t, path)
				var reports []string
				l := New(Config{Path: path, Report: func(err error) { reports = append(reports, fmt.Sprint(err)) }})
				for range 30 {
					l.Add(Usage{At: time.Now(), Sums: Sums{Requests: 1}})
					l.Save("b", "k", []byte(time.Now().String()))
					<-time.After(time.Second)
				}
				l.Save("b", "k", []byte("last"))
				if err := l.SaveNow("b", "k", []byte("refused")); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("SaveNow: %v", err)
				}
				if _, err := l.Query(Query{}); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("Query: %v", err)
				}
				unblock()
				<-time.After(retry + time.Second)
				if got := onDisk(t, l); got != 30 {
					t.Errorf("%d requests are on the disk", got)
				}
				if got := saved(t, l, "b")["k"]; got != "last" {
					t.Errorf("%q was saved", got)
				}
				if len(reports) != 2 || !strings.Contains(reports[0], test.want) || reports[1] != "<nil>" {
					t.Errorf("reports: %q", reports)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l := New(Config{Path: newPath(t)})
	l.Add(Usage{At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Add(Usage{Sums: Sums{Requests: 1}}) // by a request that outlives all: no panic
	l.Save("b", "k", nil)
	_, queried := l.Query(Query{})
	for _, err := range []error{queried, l.SaveNow("b", "k", nil), l.Load("b", nil), l.Flush()} {
		if !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	}
}
