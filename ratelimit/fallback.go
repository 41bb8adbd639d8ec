package ratelimit

import "context"

// A Fallback decides by the shared facts, and while they are away by those of this process: what it last heard of the shared
// ones, and what it took itself since.
type Fallback struct {
	Shared *Shared
	// Local decides while the shared facts are away; nil for nobody, so that Take fails then.
	Local *Memory
}

// Take takes from all limits of the request, or from none. It fails only without Local.
func (f Fallback) Take(ctx context.Context, t *Take) error {
	t.local = false
	err := f.Shared.take(ctx, t, f.Local)
	if err == nil || f.Local == nil {
		return err
	}
	t.local = true
	return f.Local.Take(ctx, t)
}

// Peek fills in what is left and takes nothing.
func (f Fallback) Peek(ctx context.Context, t *Take) error {
	err := f.Shared.Peek(ctx, t)
	if err == nil || f.Local == nil {
		return err
	}
	return f.Local.Peek(ctx, t)
}

// Settle gives back where it was taken.
func (f Fallback) Settle(t *Take, tokens, spend int64) {
	if t.local {
		f.Local.Settle(t, tokens, spend)
		return
	}
	f.Shared.Settle(t, tokens, spend)
}

// hear replaces the facts of limits by those that others know. Places are not: only their owner knows when they come free.
func (m *Memory) hear(limits []*Limit, cells []cell) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, l := range limits {
		switch c := cells[i].(type) {
		case *places:
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
