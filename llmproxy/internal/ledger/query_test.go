package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestQuery(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := open(t, path)
	for _, u := range []Usage{
		{Key: "alice", Model: "local", Target: "gpu/llama", At: noon("2026-11-01"), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 10, Output: 5, Cached: 2}, Saved: 0.5}},
		{Key: "alice", Model: "local", Target: "openai/mini", At: noon("2026-11-01"), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 20, Output: 6}, Spilled: 1, USD: 0.25}},
		{Key: "bob", Model: "local", Target: "gpu/llama", At: noon("2026-11-01"), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 1}, Unpriced: 1}},
		{Key: "alice", Model: "gpt-4o", Target: "openai/gpt-4o", At: noon("2026-11-03"), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 7, Output: 7}, USD: 0.5}},
		{Model: "local", Target: "gpu/llama", At: noon("2026-11-03"), Sums: Sums{Requests: 1}},
		{Key: "alice", Model: "gpt-4o", Target: "openai/gpt-4o", At: time.Date(2026, 11, 4, 1, 0, 0, 0, time.FixedZone("", 2*3600)), Sums: Sums{Requests: 1}},
	} {
		l.Add(u)
	}
	tests := []struct {
		name string
		q    Query
		want []Row
	}{
		{"all", Query{}, []Row{{Sums: Sums{Requests: 6, Usage: tokens.Usage{Input: 38, Output: 18, Cached: 2}, Spilled: 1, Unpriced: 1, USD: 0.75, Saved: 0.5}}}},
		{"by key", Query{By: []string{"key"}}, []Row{
			{Sums: Sums{Requests: 1}},
			{Key: "alice", Sums: Sums{Requests: 4, Usage: tokens.Usage{Input: 37, Output: 18, Cached: 2}, Spilled: 1, USD: 0.75, Saved: 0.5}},
			{Key: "bob", Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 1}, Unpriced: 1}},
		}},
		{"of one key", Query{Key: "alice", By: []string{"model"}}, []Row{
			{Model: "gpt-4o", Sums: Sums{Requests: 2, Usage: tokens.Usage{Input: 7, Output: 7}, USD: 0.5}},
			{Model: "local", Sums: Sums{Requests: 2, Usage: tokens.Usage{Input: 30, Output: 11, Cached: 2}, Spilled: 1, USD: 0.25, Saved: 0.5}},
		}},
		{"of a key that used nothing", Query{Key: "carol"}, []Row{}},
		{"a day in UTC", Query{From: noon("2026-11-03"), To: noon("2026-11-03"), By: []string{"model"}}, []Row{
			{Model: "gpt-4o", Sums: Sums{Requests: 2, Usage: tokens.Usage{Input: 7, Output: 7}, USD: 0.5}},
			{Model: "local", Sums: Sums{Requests: 1}},
		}},
		{"by target and day", Query{To: noon("2026-11-02"), By: []string{"target", "day"}}, []Row{
			{Day: "2026-11-01", Target: "gpu/llama", Sums: Sums{Requests: 2, Usage: tokens.Usage{Input: 11, Output: 5, Cached: 2}, Unpriced: 1, Saved: 0.5}},
			{Day: "2026-11-01", Target: "openai/mini", Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 20, Output: 6}, Spilled: 1, USD: 0.25}},
		}},
		{"a time without use", Query{From: noon("2026-12-01"), By: []string{"key"}}, []Row{}},
	}
	check := func(t *testing.T, l *Ledger) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				if diff := cmp.Diff(test.want, query(t, l, test.q)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
	check(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("opened again", func(t *testing.T) { check(t, open(t, path)) })
}

func TestQueryByWhatIsNot(t *testing.T) {
	t.Parallel()
	if _, err := open(t, newPath(t)).Query(Query{By: []string{"colour"}}); err == nil || !strings.Contains(err.Error(), `"colour": rows are told apart by day, key`) {
		t.Errorf("got %v", err)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	got := Merge([]Row{{Key: "a", Sums: Sums{Requests: 1}}, {Key: "c", Sums: Sums{Requests: 2}}}, nil, []Row{{Key: "a", Sums: Sums{Requests: 4, USD: 1}}, {Key: "b"}})
	want := []Row{{Key: "a", Sums: Sums{Requests: 5, USD: 1}}, {Key: "b"}, {Key: "c", Sums: Sums{Requests: 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Merge(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("got %v, want an empty list", got)
	}
}

// Names of models are the clients' to make up: neither memory nor the file may grow with them, and nothing goes uncounted.
func TestRowsAreBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		each int // uses between two commits
	}{{"in one batch", 4 * maxRows}, {"over batches", maxRows / 2}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := open(t, newPath(t))
			total := int64(0)
			for total < 4*maxRows {
				for range test.each {
					l.Add(Usage{Key: "mallory", Model: "m" + time.Duration(total).String(), Target: "t", At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
					total++
				}
				l.mu.Lock() // its timer may write meanwhile
				n := len(l.pending.rows)
				l.mu.Unlock()
				if n > 2*maxRows+1 {
					t.Fatalf("%d rows wait", n)
				}
				if err := l.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			l.Add(Usage{Key: "alice", Model: "late", Target: "gpu/late", At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
			if n := len(query(t, l, Query{By: Dimensions()})); n < maxRows || n > maxRows+2 {
				t.Errorf("%d rows", n)
			}
			want := []Row{{Key: "alice", Sums: Sums{Requests: 1}}, {Key: "mallory", Sums: Sums{Requests: total}}}
			if diff := cmp.Diff(want, query(t, l, Query{By: []string{"key"}})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	l := open(t, newPath(t))
	for i := range 3 * maxRows {
		l.Add(Usage{Key: "k" + time.Duration(i).String(), Model: "m", Target: "t", At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	}
	rows := query(t, l, Query{By: Dimensions()})
	if n := len(rows); n < 2*maxRows || n > 2*maxRows+1 || requests(t, l) != 3*maxRows {
		t.Errorf("%d rows, %d requests", n, requests(t, l))
	}
}

func TestLongNamesAreCut(t *testing.T) {
	t.Parallel()
	l := open(t, newPath(t))
	l.Add(Usage{Model: strings.Repeat("x", maxName-1) + "é", At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	l.Add(Usage{Model: strings.Repeat("x", 1<<20), At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
	want := []Row{
		{Model: strings.Repeat("x", maxName-1), Sums: Sums{Requests: 1}},
		{Model: strings.Repeat("x", maxName), Sums: Sums{Requests: 1}},
	}
	if diff := cmp.Diff(want, query(t, l, Query{By: []string{"model"}})); diff != "" {
		t.Error(diff)
	}
}
