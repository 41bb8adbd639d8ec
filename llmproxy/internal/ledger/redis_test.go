//go:build redis

package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/redistest"
	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

// A server is a Redis that several processes use.
type server struct {
	*redistest.Server
	t      *testing.T
	answer time.Duration // the longest wait for one
}

// startServer starts one that is waited for, however busy the machine is.
func startServer(t *testing.T) *server { return &server{redistest.Start(t), t, redisTimeout} }

func (s *server) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Address, DialTimeout: time.Second, ReadTimeout: s.answer, MaxRetries: -1, ContextTimeoutEnabled: true,
	})
}

// shared makes a ledger with a client of its own, as a process has it.
func (s *server) shared() *Shared {
	s.t.Helper()
	client := s.client()
	l := NewShared(client, nil)
	s.t.Cleanup(func() {
		l.Close() // a server that is away does not matter any more
		client.Close()
	})
	return l
}

func must(t *testing.T, l *Shared, q Query) []Row {
	t.Helper()
	rows, err := l.Query(q)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func today() time.Time { return time.Now().UTC() }

func TestSharedSumsUpForAll(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.shared(), s.shared()
	yesterday := today().AddDate(0, 0, -1)
	a.Add(Usage{Key: "alice", Model: "local", Target: "gpu/llama", At: today(), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 10, Output: 5, Cached: 2}, Unpriced: 1, Saved: 0.5}})
	b.Add(Usage{Key: "alice", Model: "local", Target: "gpu/llama", At: today(), Sums: Sums{Requests: 1, Usage: tokens.Usage{Input: 20, Output: 6}, Spilled: 1, USD: 0.25}})
	b.Add(Usage{Model: "m\x00\xff", Target: "gpu/llama", At: yesterday, Sums: Sums{Requests: 1, USD: 1e-9}})
	a.Add(Usage{Model: "too old", At: today().AddDate(-2, 0, 0), Sums: Sums{Requests: 1}})
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Day: dayOf(yesterday).String(), Model: "m\x00\xff", Target: "gpu/llama", Sums: Sums{Requests: 1, USD: 1e-9}},
		{Day: dayOf(today()).String(), Key: "alice", Model: "local", Target: "gpu/llama",
			Sums: Sums{Requests: 2, Usage: tokens.Usage{Input: 30, Output: 11, Cached: 2}, Spilled: 1, Unpriced: 1, USD: 0.25, Saved: 0.5}},
	}
	if diff := cmp.Diff(want, must(t, b, Query{By: Dimensions()})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:1], must(t, b, Query{By: Dimensions(), To: yesterday})); diff != "" {
		t.Error(diff)
	}
	client := s.client()
	defer client.Close()
	if ttl, err := client.TTL(context.Background(), sharedPrefix+dayOf(today()).String()).Result(); err != nil || ttl <= retention*24*time.Hour {
		t.Errorf("the day is kept for %v, %v", ttl, err)
	}
}

func TestSharedIsWrittenInTheBackground(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := s.shared(), s.shared()
	a.Add(Usage{At: today(), Sums: Sums{Requests: 1}})
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(must(t, b, Query{})) == 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("nothing was written")
		}
	}
}

func TestSharedRowsAreBounded(t *testing.T) {
	t.Parallel()
	l := startServer(t).shared()
	for i := range 3 * sharedRows {
		l.Add(Usage{Key: "mallory", Model: fmt.Sprint("m", i), Target: "t", At: today(), Sums: Sums{Requests: 1}})
		if i%sharedRows == sharedRows/2 {
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.Add(Usage{Key: "alice", Model: "late", Target: "t", At: today(), Sums: Sums{Requests: 1}})
	if n := len(must(t, l, Query{By: Dimensions()})); n < sharedRows || n > sharedRows+2 {
		t.Errorf("%d rows", n)
	}
	want := []Row{{Key: "alice", Sums: Sums{Requests: 1}}, {Key: "mallory", Sums: Sums{Requests: 3 * sharedRows}}}
	if diff := cmp.Diff(want, must(t, l, Query{By: []string{"key"}})); diff != "" {
		t.Error(diff)
	}
}

// The server hangs while it is written to, and does what it was told when it goes on, though nobody waits for the answer any
// more: nothing is counted twice, and nothing is lost.
func TestSharedCountsOnceThoughTheServerHangs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.answer = 200 * time.Millisecond
	l := s.shared()
	const rounds, each = 3, 500
	for range rounds {
		s.Hang()
		for i := range each {
			l.Add(Usage{Model: strconv.Itoa(i), At: today(), Sums: Sums{Requests: 1}})
		}
		if err := l.Flush(); err == nil {
			t.Error("the server was to hang")
		}
		l.Add(Usage{Model: "meanwhile", At: today(), Sums: Sums{Requests: 1}})
		if err := l.Flush(); err == nil {
			t.Error("the server was to hang")
		}
		s.GoOn()
		for l.Flush() != nil { // a busy machine may take more than one try
		}
	}
	s.answer = redisTimeout
	if diff := cmp.Diff([]Row{{Sums: Sums{Requests: rounds * (each + 1)}}}, must(t, s.shared(), Query{})); diff != "" {
		t.Error(diff)
	}
}

// While the server is away, adding does not wait, and what is added is written when it is back.
func TestSharedServerIsStoppedAndStarted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var reports []string
	client := s.client()
	defer client.Close()
	l := NewShared(client, func(err error) { reports = append(reports, fmt.Sprint(err)) })
	s.Down()
	for range 100 {
		l.Add(Usage{At: today(), Sums: Sums{Requests: 1}})
	}
	for range 2 {
		if _, err := l.Query(Query{}); err == nil || !strings.Contains(err.Error(), "the shared state") {
			t.Errorf("the server was to be away: %v", err)
		}
	}
	s.Up()
	if diff := cmp.Diff([]Row{{Sums: Sums{Requests: 100}}}, must(t, l, Query{})); diff != "" {
		t.Error(diff)
	}
	if err := client.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	l.Add(Usage{At: today(), Sums: Sums{Requests: 1}})
	if diff := cmp.Diff([]Row{{Sums: Sums{Requests: 1}}}, must(t, l, Query{})); diff != "" {
		t.Error("after the server forgot everything:", diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 2 || reports[1] != "<nil>" {
		t.Errorf("reports: %q", reports)
	}
}

func TestSharedManyAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	processes := []*Shared{s.shared(), s.shared()}
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			l := processes[i%2]
			for range 20 {
				l.Add(Usage{Key: strconv.Itoa(i % 7), Model: "m", Target: "t", At: today(), Sums: Sums{Requests: 1}})
			}
			if i%100 == 0 {
				if err := l.Flush(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, l := range processes {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]Row{{Sums: Sums{Requests: 20_000}}}, must(t, s.shared(), Query{})); diff != "" {
		t.Error(diff)
	}
}
