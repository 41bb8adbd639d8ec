package ledger

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		child(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// noon is a time within a day.
func noon(date string) time.Time {
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		panic(err)
	}
	return t.Add(12 * time.Hour)
}

// open makes a ledger on a file of the test's own and closes it with the test.
func open(t testing.TB, path string) *Ledger {
	t.Helper()
	l := New(Config{Path: path, Report: func(err error) {
		if err != nil {
			t.Error(err)
		}
	}})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "folder", "ledger.db") }

// query gives rows that must be there to be had.
func query(t testing.TB, l *Ledger, q Query) []Row {
	t.Helper()
	rows, err := l.Query(q)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// requests is how many requests the ledger knows of.
func requests(t testing.TB, l *Ledger) int64 {
	t.Helper()
	total := int64(0)
	for _, row := range query(t, l, Query{}) {
		total += row.Requests
	}
	return total
}

// saved is what a bucket holds.
func saved(t testing.TB, l *Ledger, bucket string) map[string]string {
	t.Helper()
	values := map[string]string{}
	err := l.Load(bucket, func(key string, value []byte) error {
		values[key] = string(value)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}
