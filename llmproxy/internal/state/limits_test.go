package state

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

func budget(t *testing.T, subject, text string) []*ratelimit.Limit {
	t.Helper()
	rule, err := ratelimit.ParseBudget(text)
	if err != nil {
		t.Fatal(err)
	}
	return ratelimit.New(subject, []ratelimit.Rule{rule})
}

// The first request after a restart sees the usage from before it, and does not wait for StartDelay.
func TestFirstRequestMeetsItsBudget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	live := func(do func(*localLimits)) {
		book := ledger.New(ledger.Config{Path: path})
		l := newLocalLimits(book)
		go l.run()
		do(l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
	}
	limits := budget(t, "key/alice", "$1/30d")
	live(func(l *localLimits) {
		take := &ratelimit.Reservation{Limits: limits, Spend: ratelimit.Dollar}
		if err := l.Take(t.Context(), take); err != nil || take.Denied != nil {
			t.Fatalf("%v, denied %v", err, take.Denied)
		}
		l.Settle(take, 0, ratelimit.Dollar)
	})
	live(func(l *localLimits) {
		take := &ratelimit.Reservation{Limits: limits, Spend: 1}
		if err := l.Take(t.Context(), take); err != nil || take.Denied == nil {
			t.Errorf("%v; the budget looks unused", err)
		}
	})
	live(func(l *localLimits) {
		peek := &ratelimit.Reservation{Limits: limits}
		if err := l.Peek(t.Context(), peek); err != nil || peek.Left[0].Left != 0 {
			t.Errorf("%v, %d are left", err, peek.Left[0].Left)
		}
	})
}

// A request that is canceled does not wait, and a disk that cannot be read refuses nobody.
func TestUnreadableLedger(t *testing.T) {
	hung := newLocalLimits(nil) // it does not run
	gone, leave := context.WithCancel(t.Context())
	leave()
	hung.awaitRestore(gone)
	l := newLocalLimits(ledger.New(ledger.Config{Path: filepath.Join("/dev/null", "ledger.db")}))
	go l.run()
	take := &ratelimit.Reservation{Limits: budget(t, "key/alice", "$1/month"), Spend: 1}
	if err := l.Take(t.Context(), take); err != nil || take.Denied != nil {
		t.Errorf("%v, denied %v", err, take.Denied)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestOldUsageIsDeleted(t *testing.T) {
	book := ledger.New(ledger.Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	defer book.Close()
	m := ratelimit.NewMemory()
	m.Changes()
	take := &ratelimit.Reservation{Limits: budget(t, "key/alice", "$1/month"), Spend: 1}
	if err := m.Take(t.Context(), take); err != nil {
		t.Fatal(err)
	}
	for id, usage := range m.Changes() {
		book.Save(limitsBucket, id, encodeUsage(usage, today()-maxUnusedDays))
		book.Save(limitsBucket, "old", encodeUsage(usage, today()-maxUnusedDays-1))
	}
	book.Save(limitsBucket, "none", []byte("x"))
	if !newLocalLimits(book).restore() {
		t.Fatal("nothing was restored")
	}
	var left []string
	err := book.Load(limitsBucket, func(id string, _ []byte) error { left = append(left, id); return nil })
	if err != nil || len(left) != 1 || left[0] != "key/alice/budget/month" {
		t.Errorf("%v, left are %v", err, left)
	}
}
