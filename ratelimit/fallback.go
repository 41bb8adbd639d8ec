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
	if f.Local == nil {
		return f.Shared.Take(ctx, t)
	}
	if !f.Shared.away.Load() {
		f.Local.ask(t, 1)
		if err := f.Shared.take(ctx, t, f.Local); err == nil {
			return nil
		}
		f.Local.ask(t, -1)
	}
	t.lease, t.share = f.Shared.lease(), f.Shared.share()
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

// ask notes that a request asks the shared facts, or, less than once, that it has no answer.
func (m *Memory) ask(t *Take, times int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked.add(t, times)
}

// hear takes the answer. It replaces the facts of limits by those that others know, unless this process decides by itself just
// now: the others do not know of that yet. Places that were taken are added to its own: only it knows when they come free.
func (m *Memory) hear(t *Take, cells []cell, taken, alone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked.add(t, -1)
	for i, l := range t.Limits {
		_, places := cells[i].(*places)
		switch {
		case places || alone:
			if taken {
				m.cell(l).take(t.want(l.Rule))
			}
		case l.Address.IsValid():
			*m.addresses.bucket(l) = *cells[i].(*bucket)
		default:
			m.cells[l.ID] = cells[i]
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
