package ratelimit

import (
	"context"
	"time"
)

// A Fallback decides by the shared facts, and while they are away by this process's share of the limits: it goes on from what
// it last heard of them, and what it takes is added to the shared ones when they are back.
type Fallback struct {
	Shared *Shared
	// Local holds what was heard, and decides while the shared facts are away; nil for nobody, so that Take fails then.
	Local *Memory
}

// Take takes from all limits of the request, or from none. It fails only without Local.
func (f Fallback) Take(ctx context.Context, t *Take) error {
	t.share, t.owed = 0, 0
	err := f.Shared.take(ctx, t, f.Local)
	if err == nil || f.Local == nil {
		return err
	}
	t.share = f.Shared.share()
	f.Local.take(time.Now(), t)
	if t.Denied == nil {
		f.Shared.hold(t)
		f.Shared.debts.add(t)
	}
	return nil
}

// Peek fills in what is left and takes nothing.
func (f Fallback) Peek(ctx context.Context, t *Take) error {
	t.share = 0
	err := f.Shared.Peek(ctx, t)
	if err == nil || f.Local == nil {
		return err
	}
	t.share = f.Shared.share()
	return f.Local.Peek(ctx, t)
}

// Settle gives back where it was taken.
func (f Fallback) Settle(t *Take, tokens, spend int64) {
	if f.Local == nil || t.At.IsZero() {
		f.Shared.Settle(t, tokens, spend)
		return
	}
	if now := time.Now(); t.owed != 0 && f.Shared.debts.settle(now, t, tokens, spend) {
		f.Shared.drop(t)
		f.Local.settle(now, t, tokens, spend)
		return
	}
	f.Local.free(t.Limits)
	f.Shared.Settle(t, tokens, spend)
}

// hear replaces the facts of limits by those that others know. Places that were taken are added to this process's own: only
// it knows when they come free.
func (m *Memory) hear(limits []*Limit, cells []cell, taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, l := range limits {
		switch c := cells[i].(type) {
		case *places:
			if taken {
				m.cell(l).take(1)
			}
		case *bucket:
			if l.Address.IsValid() {
				*m.addresses.bucket(l) = *c
			} else {
				m.cells[l.ID] = c
			}
		default:
			m.cells[l.ID] = c
		}
	}
}

// free gives places back.
func (m *Memory) free(limits []*Limit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range limits {
		if l.Rule.Unit == Concurrent {
			m.cell(l).settle(0, 0, time.Time{}, l.Rule)
		}
	}
}
