package ledger

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

func TestRetention(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		l := open(t, path)
		first := dayOf(time.Now())
		for range retention + 50 {
			l.Add(Usage{At: time.Now(), Sums: Sums{Requests: 1}})
			<-time.After(24 * time.Hour)
		}
		var days []day
		if err := l.read(func(tx *bbolt.Tx) { days = readDays(tx, 0, dayOf(time.Now())) }); err != nil {
			t.Fatal(err)
		}
		want := make([]day, retention)
		for i := range want {
			want[i] = first + 50 + day(i)
		}
		if !slices.Equal(want, days) {
			t.Errorf("%d days from %v to %v", len(days), days[0], days[len(days)-1])
		}
	})
}

// A clock that says it were ten years later costs the oldest days only.
func TestClockStep(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		l := open(t, path)
		for i := range 30 {
			l.Add(Usage{At: time.Now().AddDate(0, 0, i), Sums: Sums{Requests: 1}})
		}
		if got := requests(t, l); got != 30 {
			t.Errorf("%d requests", got)
		}
		<-time.After(10 * 366 * 24 * time.Hour)
		for range 5 {
			l.Add(Usage{At: time.Now(), Sums: Sums{Requests: 1}})
			<-time.After(time.Second)
		}
		l.Add(Usage{At: time.Time{}, Sums: Sums{Requests: 1}}) // and one that was not set
		if got, want := requests(t, l), int64(30-prunedAtOnce+5+1); got != want {
			t.Errorf("%d requests, not %d", got, want)
		}
	})
}
