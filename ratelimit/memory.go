package ratelimit

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Memory keeps the facts in this process. It is safe for concurrent use. One lock is enough: it is held for some hundred
// nanoseconds a request, and makes a take of several limits one step, so that they hold exactly.
type Memory struct {
	mu        sync.Mutex
	cells     map[string]cell
	changed   map[string]struct{} // since the last Changes; nil until somebody asks for them
	addresses addresses
	asked     asked // of the shared facts; empty without them
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{cells: map[string]cell{}, addresses: newAddresses(), asked: asked{}}
}

// Take reserves from all limits of the request, or from none. It never fails or waits.
func (m *Memory) Take(_ context.Context, t *Reservation) error {
	m.take(time.Now(), t)
	return nil
}

func (m *Memory) take(now time.Time, t *Reservation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := t.state()
	t.Denied, t.Wait = nil, 0
	for i, l := range t.Limits {
		c := m.cell(l)
		left[i] = t.share.state(c, c.look(now, l.Rule), l.Rule)
		// A bucket's used is not whole while it drains; a wait of zero says that it is enough.
		if wait := m.asked.wait(t.share, c, t.want(l.Rule), l); wait > 0 {
			t.deny(l, wait)
		}
	}
	if t.Denied != nil {
		return
	}
	t.At = now
	for i, l := range t.Limits {
		c := m.cell(l)
		c.take(t.share.times(t.want(l.Rule)))
		m.note(l)
		left[i] = t.share.state(c, c.look(now, l.Rule), l.Rule)
	}
}

// Peek fills in the quota left and reserves nothing.
func (m *Memory) Peek(_ context.Context, t *Reservation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for i, l := range t.Limits {
		c := m.cell(l)
		t.state()[i] = t.share.state(c, c.look(now, l.Rule), l.Rule)
	}
	return nil
}

// Settle puts the tokens and the cost that were really used in the place of the estimates, and gives the places back.
// Requests stay taken. A reservation that was denied or already settled is ignored.
func (m *Memory) Settle(t *Reservation, tokens, spend int64) { m.settle(time.Now(), t, tokens, spend) }

func (m *Memory) settle(now time.Time, t *Reservation, tokens, spend int64) {
	if t.At.IsZero() {
		return
	}
	var crossed [4]crossing
	told := crossed[:0]
	m.mu.Lock()
	for _, l := range t.Limits {
		c := m.cell(l)
		c.look(now, l.Rule)
		c.settle(t.share.times(t.want(l.Rule)), t.share.times(used(l.Rule.Unit, tokens, spend)), t.At, l.Rule)
		m.note(l)
		if l.Rule.Unit == Spend && t.owed == 0 {
			if percent := passed(c, c.look(now, l.Rule), l.Rule); percent > 0 {
				told = append(told, crossing{l, percent})
			}
		}
	}
	m.mu.Unlock()
	t.At = time.Time{}
	for _, c := range told {
		if t.Crossed != nil {
			t.Crossed(c.limit, c.percent)
		}
	}
}

// A crossing is a budget that passed a mark.
type crossing struct {
	limit   *Limit
	percent int
}

// passed tells which mark a budget has passed and nobody was told of. What is only reserved does not count.
func passed(c cell, sum float64, r Rule) int {
	var level *uint8
	var open reserved
	switch c := c.(type) {
	case *spending:
		level, open = &c.level, c.reserved
	case *period:
		level, open = &c.level, c.reserved
	default:
		return 0
	}
	reached := mark(sum-float64(open), r)
	told := *level
	*level = reached // below a mark again: it will be told anew
	if reached > told {
		return int(reached)
	}
	return 0
}

func mark(sum float64, r Rule) uint8 {
	switch limit := float64(r.Limit); {
	case sum >= limit:
		return 100
	case sum >= 0.8*limit:
		return 80
	}
	return 0
}

// cell finds the facts of a limit, or begins them.
func (m *Memory) cell(l *Limit) cell {
	if l.Address.IsValid() {
		return m.addresses.bucket(l)
	}
	c, ok := m.cells[l.ID]
	if !ok {
		c = newCell(l.Rule)
		m.cells[l.ID] = c
	}
	return c
}

func newCell(r Rule) cell {
	switch {
	case r.Unit == Concurrent:
		return new(places)
	case r.Unit == Requests:
		return new(bucket)
	case r.Unit == Tokens:
		return new(metered)
	case r.Calendar != NoCalendar:
		return new(period)
	}
	return new(spending)
}

func (m *Memory) note(l *Limit) {
	if m.changed != nil && l.ID != "" && l.Rule.Unit != Concurrent {
		m.changed[l.ID] = struct{}{}
	}
}

// pendingWait is how long is told to wait who does not fit only because of requests whose answer is still to come.
const pendingWait = time.Second

// asked is what requests that are asking the shared facts want of each limit. Where many ask at once, some have no time to
// wait for the answer: those that this process then decides by itself must leave what the others may be given.
type asked map[subject]int64

// A subject is whose facts a limit has.
type subject struct {
	id      string
	address netip.Addr
	rule    Rule
}

func subjectOf(l *Limit) subject {
	r := l.Rule
	r.Limit = 0
	return subject{l.ID, l.Address, r}
}

// add adds what a request wants, so many times: once when it asks, and less once when it knows.
func (a asked) add(t *Reservation, times int64) {
	for _, l := range t.Limits {
		who := subjectOf(l)
		if a[who] += times * t.want(l.Rule); a[who] == 0 {
			delete(a, who)
		}
	}
}

// wait is how long it takes until n are free besides what is asked for.
func (a asked) wait(s share, c cell, n int64, l *Limit) time.Duration {
	wait := s.wait(c, n, l.Rule)
	if wait > 0 || len(a) == 0 {
		return wait
	}
	if others := a[subjectOf(l)]; others > 0 && s.wait(c, n+others, l.Rule) > 0 {
		return pendingWait
	}
	return 0
}
