package ratelimit

import (
	"context"
	"sync"
	"time"
)

// Memory counts in this process. It is safe for concurrent use. One lock is enough: it is held for a few hundred nanoseconds a
// request, and makes a reservation from several limits atomic.
type Memory struct {
	mu        sync.Mutex
	counters  map[string]Counter
	changed   map[string]struct{} // IDs changed since the last call of Changes; nil before the first
	addresses addresses
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{counters: map[string]Counter{}, addresses: newAddresses()}
}

// Take reserves from all limits of the request, or from none. It never fails or waits.
func (m *Memory) Take(_ context.Context, res *Reservation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(time.Now(), res, nil)
	return nil
}

// take reserves, but leaves free what pending requests need. The caller holds mu.
func (m *Memory) take(now time.Time, res *Reservation, others pending) {
	left := res.quotas()
	res.Denied, res.Wait = nil, 0
	for i, l := range res.Limits {
		c, n := m.counter(l), res.Amount(l.Rule)
		left[i] = res.share.quota(c, c.advance(now, l.Rule), l.Rule)
		// The wait decides, not what is left: while a bucket drains, its usage is not a whole number.
		wait := res.share.wait(c, n, l.Rule)
		if wait == 0 {
			wait = others.wait(res.share, c, n, l)
		}
		if wait > 0 {
			res.deny(l, wait)
		}
	}
	if res.Denied != nil {
		return
	}
	res.At = now
	for i, l := range res.Limits {
		c := m.counter(l)
		c.add(res.share.scale(res.Amount(l.Rule)))
		m.markChanged(l)
		left[i] = res.share.quota(c, c.advance(now, l.Rule), l.Rule)
	}
}

// Peek fills in the quota left and reserves nothing.
func (m *Memory) Peek(_ context.Context, res *Reservation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peek(res)
	return nil
}

// peek fills in the quota left. The caller holds mu.
func (m *Memory) peek(res *Reservation) {
	now, left := time.Now(), res.quotas()
	for i, l := range res.Limits {
		c := m.counter(l)
		left[i] = res.share.quota(c, c.advance(now, l.Rule), l.Rule)
	}
}

// Settle replaces the estimates by the tokens and the cost that were really used, and ends the concurrent request. The request
// itself stays counted. A reservation that was denied or already settled is ignored.
func (m *Memory) Settle(res *Reservation, tokens, spend int64) {
	m.settle(time.Now(), res, tokens, spend)
}

func (m *Memory) settle(now time.Time, res *Reservation, tokens, spend int64) {
	if res.At.IsZero() {
		return
	}
	var buffer [4]budgetAlert
	alerts := buffer[:0]
	m.mu.Lock()
	for _, l := range res.Limits {
		c := m.settleLimit(now, l, res, tokens, spend)
		if l.Rule.Unit == Spend {
			if percent := alert(c, c.advance(now, l.Rule), l.Rule); percent > 0 {
				alerts = append(alerts, budgetAlert{l, percent})
			}
		}
	}
	m.mu.Unlock()
	res.At = time.Time{}
	if res.BudgetUsed == nil {
		return
	}
	for _, a := range alerts {
		res.BudgetUsed(a.budget, a.percent)
	}
}

// A budgetAlert is a budget that has reached a threshold.
type budgetAlert struct {
	budget  *Limit
	percent int
}

// settleLimit settles one limit of a reservation. The caller holds mu.
func (m *Memory) settleLimit(now time.Time, l *Limit, res *Reservation, tokens, spend int64) Counter {
	c := m.counter(l)
	c.advance(now, l.Rule)
	c.settle(res.share.scale(res.Amount(l.Rule)), res.share.scale(res.Used(l.Rule.Unit, tokens, spend)), res.At, l.Rule)
	m.markChanged(l)
	return c
}

// counter returns the counter of a limit, creating it if needed.
func (m *Memory) counter(l *Limit) Counter {
	if l.Address.IsValid() {
		return m.addresses.bucket(l)
	}
	c, ok := m.counters[l.ID]
	if !ok {
		c = newCounter(l.Rule)
		m.counters[l.ID] = c
	}
	return c
}

func (m *Memory) markChanged(l *Limit) {
	if m.changed != nil && l.ID != "" && l.Rule.Unit != Concurrent {
		m.changed[l.ID] = struct{}{}
	}
}
