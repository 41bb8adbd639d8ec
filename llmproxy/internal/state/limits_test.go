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

// The first request after a restart meets what was used before it, and does not wait for the first look.
func TestFirstRequestMeetsItsBudget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	live := func(do func(*localLimits)) {
		book := ledger.New(ledger.Config{Path: path})
		l := newLocalLimits(book)
		go l.keep()
		do(l)
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if err := book.Close(); err != nil {
			t.Fatal(err)
		}
	}
	limits := budget(t, "key/alice", "$1/30d")
	live(func(l *localLimits) {
		take := &ratelimit.Take{Limits: limits, Spend: ratelimit.Dollar}
		if err := l.Take(t.Context(), take); err != nil || take.Denied != nil {
			t.Fatalf("%v, denied %v", err, take.Denied)
		}
		l.Settle(take, 0, ratelimit.Dollar)
	})
	live(func(l *localLimits) {
		take := &ratelimit.Take{Limits: limits, Spend: 1}
		if err := l.Take(t.Context(), take); err != nil || take.Denied == nil {
			t.Errorf("%v; the budget seems unused", err)
		}
	})
	live(func(l *localLimits) {
		peek := &ratelimit.Take{Limits: limits}
		if err := l.Peek(t.Context(), peek); err != nil || peek.Left[0].Left != 0 {
			t.Errorf("%v, %d are left", err, peek.Left[0].Left)
		}
	})
}

// A request that leaves does not wait, and a disk that cannot be used refuses nobody.
func TestFactsThatDoNotCome(t *testing.T) {
	hung := newLocalLimits(nil) // nobody keeps
	gone, leave := context.WithCancel(t.Context())
	leave()
	hung.awaitFacts(gone)
	l := newLocalLimits(ledger.New(ledger.Config{Path: filepath.Join("/dev/null", "ledger.db")}))
	go l.keep()
	take := &ratelimit.Take{Limits: budget(t, "key/alice", "$1/month"), Spend: 1}
	if err := l.Take(t.Context(), take); err != nil || take.Denied != nil {
		t.Errorf("%v, denied %v", err, take.Denied)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

func TestOldFactsArePruned(t *testing.T) {
	book := ledger.New(ledger.Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	defer book.Close()
	m := ratelimit.NewMemory()
	m.Changes()
	take := &ratelimit.Take{Limits: budget(t, "key/alice", "$1/month"), Spend: 1}
	if err := m.Take(t.Context(), take); err != nil {
		t.Fatal(err)
	}
	for id, facts := range m.Changes() {
		book.Save(limitsBucket, id, dated(facts, today()-limitsLife))
		book.Save(limitsBucket, "old", dated(facts, today()-limitsLife-1))
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
