package ledger

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := open(t, path)
	const goroutines, each = 1000, 50
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			for j := range each {
				l.Add(Usage{Key: strconv.Itoa(i % 7), Model: "m", Target: "t", At: noon("2026-11-01"), Sums: Sums{Requests: 1, Usage: tokens.Usage{Output: int64(j)}}})
				l.Save("budgets", strconv.Itoa(i%50), []byte("x"))
			}
			switch {
			case i%100 == 0:
				if err := l.SaveNow("keys", strconv.Itoa(i), []byte("x")); err != nil {
					t.Error(err)
				}
			case i%100 == 1:
				query(t, l, Query{By: []string{"key"}})
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, path)
	want := []Row{{Sums: Sums{Requests: goroutines * each, Usage: tokens.Usage{Output: goroutines * each * (each - 1) / 2}}}}
	if diff := cmp.Diff(want, query(t, l, Query{})); diff != "" {
		t.Error(diff)
	}
	if n, m := len(saved(t, l, "keys")), len(saved(t, l, "budgets")); n != 10 || m != 50 {
		t.Errorf("%d keys and %d budgets were saved", n, m)
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	l := open(t, newPath(t))
	u := Usage{Key: "alice", Model: "local", Target: "gpu/llama", At: time.Now(), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 10}}}
	if n := testing.AllocsPerRun(1000, func() { l.Add(u) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	l := open(b, newPath(b))
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Add(Usage{Key: "alice", Model: "local", Target: "gpu/meta-llama/Llama-3.1-8B-Instruct", At: now, Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 10, Output: 20}}})
		}
	})
}

// A commit of a busy half second: 100 rows.
func BenchmarkCommit(b *testing.B) {
	l := open(b, newPath(b))
	b.ReportAllocs()
	for b.Loop() {
		for i := range 100 {
			l.Add(Usage{Key: strconv.Itoa(i), Model: "local", Target: "gpu/llama", At: time.Now(), Sums: Sums{Requests: 1}})
		}
		if err := l.Flush(); err != nil {
			b.Fatal(err)
		}
	}
}
