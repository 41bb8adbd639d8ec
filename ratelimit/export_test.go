package ratelimit

import "time"

// MaxOfflineLimits is the bound of the limits whose offline usage is recorded.
const MaxOfflineLimits = maxOfflineLimits

// TakeAt is Take at a given time.
func (m *Memory) TakeAt(now time.Time, res *Reservation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(now, res, nil)
}

// SettleAt is Settle at a given time.
func (m *Memory) SettleAt(now time.Time, res *Reservation, tokens, spend int64) {
	m.settle(now, res, tokens, spend)
}

// Pending returns the number of limits that pending requests need.
func (o *Offline) Pending() int { return len(o.pending) }
