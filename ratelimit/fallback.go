package ratelimit

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A Fallback decides by the shared facts, and while they are away by this process's share of the limits: it goes on from what
// it last heard of them, and what it takes is added to the shared ones when they are back.
type Fallback struct {
	Shared *Shared
	// Local holds what was heard, and decides while the shared facts are away; nil for nobody, so that Take fails then.
	Local *Memory
}

// Take reserves from all limits of the request, or from none. It fails only without Local.
func (f Fallback) Take(ctx context.Context, t *Reservation) error {
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
		f.Shared.offlineUsage.add(t)
	}
	return nil
}

// Peek fills in the quota left and reserves nothing.
func (f Fallback) Peek(ctx context.Context, t *Reservation) error {
	t.share = 0
	err := f.Shared.Peek(ctx, t)
	if err == nil || f.Local == nil {
		return err
	}
	t.share = f.Shared.share()
	return f.Local.Peek(ctx, t)
}

// Settle gives back where it was taken.
func (f Fallback) Settle(t *Reservation, tokens, spend int64) {
	if f.Local == nil || t.At.IsZero() {
		f.Shared.Settle(t, tokens, spend)
		return
	}
	if now := time.Now(); t.owed != 0 && f.Shared.offlineUsage.settle(now, t, tokens, spend) {
		f.Shared.drop(t)
		f.Local.settle(now, t, tokens, spend)
		return
	}
	f.Local.free(t.Limits)
	f.Shared.Settle(t, tokens, spend)
}

// ask notes that a request asks the shared facts, or, less than once, that it has no answer.
func (m *Memory) ask(t *Reservation, times int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked.add(t, times)
}

// hear takes the answer. It replaces the facts of limits by those that others know, unless this process decides by itself just
// now: the others do not know of that yet. Places that were taken are added to its own: only it knows when they come free.
func (m *Memory) hear(t *Reservation, cells []cell, taken, alone bool) {
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

// maxOfflineLimits is of how many limits a process remembers what it took while the shared facts were away; of more, addresses as a
// rule, it is forgotten.
const maxOfflineLimits = 10_000

// offlineUsage is what was reserved while Redis was unavailable, to be added to Redis afterwards: one cell for each limit, which
// drains like the shared one. It is safe for concurrent use.
type offlineUsage struct {
	mu   sync.Mutex
	age  uint64 // how often they were gathered, and one
	owed map[string]*offlineLimit
}

type offlineLimit struct {
	limit   Limit
	cell    cell
	crossed func(*Limit, int)
}

// A correction is an amount to add to a limit in Redis, and when it was reserved.
type correction struct {
	*offlineLimit
	amount float64
	at     time.Time
}

// add notes what a request took of all its limits.
func (d *offlineUsage) add(t *Reservation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil {
		d.age, d.owed = d.age+1, map[string]*offlineLimit{}
	}
	t.owed = d.age
	for _, l := range t.Limits {
		if one := d.of(l); one != nil {
			one.cell.look(t.At, l.Rule)
			one.cell.take(t.want(l.Rule))
			one.limit, one.crossed = *l, t.Crossed
		}
	}
}

// of returns the offline usage of a limit, creating it if needed; nil for concurrency limits, whose slots end with their
// requests, and when the table is full.
func (d *offlineUsage) of(l *Limit) *offlineLimit {
	if l.Rule.Unit == Concurrent {
		return nil
	}
	key := sharedKey(l)
	one, ok := d.owed[key]
	if !ok && len(d.owed) < maxOfflineLimits {
		one = &offlineLimit{cell: newCell(l.Rule)}
		d.owed[key] = one
	}
	return one
}

// settle puts what was used in the place of what was taken. It tells whether it was in time: what was gathered must be
// settled where it went.
func (d *offlineUsage) settle(now time.Time, t *Reservation, tokens, spend int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil || t.owed != d.age {
		return false
	}
	for _, l := range t.Limits {
		if one := d.owed[sharedKey(l)]; one != nil {
			one.cell.look(now, l.Rule)
			one.cell.settle(t.want(l.Rule), used(l.Rule.Unit, tokens, spend), t.At, l.Rule)
		}
	}
	return true
}

// gather gives all that is owed, and nothing is owed any more.
func (d *offlineUsage) gather(now time.Time) (all []correction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.owed {
		one.cell.look(now, one.limit.Rule)
		switch c := one.cell.(type) {
		case *bucket:
			all = append(all, correction{one, c.used, now})
		case *metered:
			all = append(all, correction{one, c.used, now})
		case *period:
			all = append(all, correction{one, float64(c.spent), now})
		case *spending:
			for age, amount := range c.spent {
				at := time.Unix(0, (c.head-int64(age))*int64(width(one.limit.Rule)))
				all = append(all, correction{one, float64(amount), at})
			}
		}
	}
	d.owed = nil
	all = slices.DeleteFunc(all, func(d correction) bool { return d.amount == 0 })
	return all
}

const (
	// sharedPart is how many amounts are paid at once: a script keeps the server from everybody else.
	sharedPart = 64
	// sharedRounds is how often is gathered what was taken while the rest was paid: it is less each time.
	sharedRounds = 8
	// markSeconds is how long the server remembers what was paid: far longer than a payment may be sent again.
	markSeconds = 24 * 60 * 60
)

// pay adds what was taken while the server was away to its facts. A payment that fails is sent again, with its mark, so that
// it counts once even if only the answer was lost.
func (s *Shared) pay() error {
	for range sharedRounds {
		if len(s.unsent) == 0 {
			s.gather()
		}
		if len(s.unsent) == 0 {
			break
		}
		for len(s.unsent) > 0 {
			if err := s.send(backgroundTimeout, s.unsent[0]); err != nil {
				return err
			}
			s.unsent = s.unsent[1:]
		}
	}
	return nil
}

func (s *Shared) gather() {
	for part := range slices.Chunk(s.offlineUsage.gather(time.Now()), sharedPart) {
		s.paid++
		s.unsent = append(s.unsent, payment(part, sharedPrefix+"paid:"+s.name+":"+strconv.Itoa(s.paid)))
	}
}

// payment is the settlement of requests that had taken nothing.
func payment(part []correction, mark string) settlement {
	told := map[*Limit]func(*Limit, int){}
	job := settlement{args: []any{"", "", markSeconds}, crossed: func(l *Limit, percent int) {
		if tell := told[l]; tell != nil {
			tell(l, percent)
		}
	}}
	for _, d := range part {
		told[&d.limit] = d.crossed
		job.keys, job.limits = append(job.keys, sharedKey(&d.limit)), append(job.limits, &d.limit)
		amount := strconv.FormatFloat(d.amount, 'f', -1, 64)
		job.args = append(appendRule(job.args, d.limit.Rule), 0, amount, d.at.UnixMicro())
	}
	job.keys = append(job.keys, mark)
	return job
}
