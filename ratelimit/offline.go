package ratelimit

import (
	"math"
	"net/netip"
	"time"
)

// An Offline decides on limits that several processes share while the store that counts for all of them cannot be reached. It
// starts from the counters that the store last reported, grants this process its share of what was left, and records what it
// reserves, to be added to the store afterwards. It is safe for concurrent use.
type Offline struct {
	memory  *Memory
	pending pending      // guarded by memory.mu
	usage   offlineUsage // guarded by memory.mu
}

// NewOffline returns an Offline that has heard of no usage.
func NewOffline() *Offline { return &Offline{memory: NewMemory(), pending: pending{}} }

// Start records that a request is about to reserve in the shared store, until Finish or Abort. If many requests do so at once,
// some time out; those that are then decided here leave free what the others may still be granted.
func (o *Offline) Start(res *Reservation) {
	o.memory.mu.Lock()
	defer o.memory.mu.Unlock()
	res.share, res.batch = 0, 0
	o.pending.add(res, 1)
}

// Abort ends a request's Start that got no reply.
func (o *Offline) Abort(res *Reservation) {
	o.memory.mu.Lock()
	defer o.memory.mu.Unlock()
	o.pending.add(res, -1)
}

// Finish ends a request's Start and remembers the counters that the shared store replied with. If the store has become
// unavailable meanwhile, it keeps the counters that decide here, because the store does not know of what they granted.
// Concurrent requests are always counted here: only this process knows when they end.
func (o *Offline) Finish(res *Reservation, counters []Counter, unavailable bool) {
	now, m := time.Now(), o.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	o.pending.add(res, -1)
	for i, l := range res.Limits {
		switch {
		case unavailable || l.Rule.Unit == Concurrent:
			if res.Denied == nil {
				c := m.counter(l)
				c.advance(now, l.Rule)
				c.add(res.Amount(l.Rule))
			}
		case l.Address.IsValid():
			*m.addresses.bucket(l) = *counters[i].(*tokenBucket)
		default:
			m.counters[l.ID] = counters[i]
		}
	}
}

// Take reserves this process's share, one of so many, of all limits of the request, or nothing.
func (o *Offline) Take(res *Reservation, processes int64) {
	now := time.Now()
	o.memory.mu.Lock()
	defer o.memory.mu.Unlock()
	res.share, res.batch = share(processes), 0
	o.memory.take(now, res, o.pending)
	if res.Denied == nil {
		o.usage.add(res)
	}
}

// Peek fills in what is left of this process's share and reserves nothing.
func (o *Offline) Peek(res *Reservation, processes int64) {
	o.memory.mu.Lock()
	defer o.memory.mu.Unlock()
	res.share = share(processes)
	o.memory.peek(res)
	res.share = 0
}

// Settle replaces the estimates of a reservation by the tokens and the cost that were really used, if its usage is still
// recorded here. Otherwise it only ends the concurrent request and reports false: the shared store must settle it.
func (o *Offline) Settle(res *Reservation, tokens, spend int64) bool {
	now, m := time.Now(), o.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	recorded := o.usage.settle(now, res, tokens, spend)
	for _, l := range res.Limits {
		switch {
		case recorded:
			m.settleLimit(now, l, res, tokens, spend)
		case l.Rule.Unit == Concurrent:
			m.counter(l).settle(0, 0, now, l.Rule)
		}
	}
	if recorded {
		res.At = time.Time{}
	}
	return recorded
}

// Collect returns the usage that was recorded since its last call, to be added to the shared store.
func (o *Offline) Collect() []Correction {
	o.memory.mu.Lock()
	limits := o.usage.limits
	o.usage.limits = nil
	o.memory.mu.Unlock()
	return corrections(limits, time.Now())
}

// A limitKey identifies a counter of a shared limit.
type limitKey struct {
	id      string
	address netip.Addr
	rule    Rule
}

func keyOf(l *Limit) limitKey {
	r := l.Rule
	r.Limit = 0
	return limitKey{l.ID, l.Address, r}
}

// pending is how much of each limit is needed by requests that wait for a reply of the shared store.
type pending map[limitKey]int64

// add adds what a request needs, so many times.
func (p pending) add(res *Reservation, times int64) {
	for _, l := range res.Limits {
		key := keyOf(l)
		if p[key] += times * res.Amount(l.Rule); p[key] == 0 {
			delete(p, key)
		}
	}
}

// wait returns how long to wait because n are free, but not beside what pending requests need.
func (p pending) wait(s share, c Counter, n int64, l *Limit) time.Duration {
	if len(p) == 0 {
		return 0
	}
	if others := p[keyOf(l)]; others > 0 && s.wait(c, n+others, l.Rule) > 0 {
		return Soon
	}
	return 0
}

// A share is the number of processes that divide a limit while none knows what the others use; 0 and 1 mean that there are no
// others. A process counts its usage as often as there are processes, as if all used the same. So it reserves at most its part
// of what was left when it last heard of the limit and of what has become free since, and its counters still mean the same
// when the shared store can be reached again.
type share int64

// maxShareWait bounds the wait for a limit that only the shares of other processes exhaust: the shared store may be available
// again at any moment.
const maxShareWait = time.Minute

// scale returns what n count for all processes.
func (s share) scale(n int64) int64 {
	if s > 1 && n > math.MaxInt64/int64(s) {
		return math.MaxInt64
	}
	return n * max(1, int64(s))
}

// required returns how much must be free for n. What fits into the limit but not into the process's part is granted if the
// whole limit is free. Otherwise a limit smaller than the number of processes, or a part smaller than a prompt, would deny
// everything. The bucket then takes longer to drain. Budgets have no such exception.
func (s share) required(n int64, r Rule) int64 {
	all := s.scale(n)
	if all > r.Limit && n <= r.Limit && r.Unit != Spend {
		return r.Limit
	}
	return all
}

// wait returns how long it takes until n are free for this process.
func (s share) wait(c Counter, n int64, r Rule) time.Duration {
	wait := c.wait(s.required(n, r), r)
	if s <= 1 || wait <= maxShareWait {
		return wait
	}
	return max(c.wait(n, r), maxShareWait)
}

// quota returns what is left of a limit for this process.
func (s share) quota(c Counter, used float64, r Rule) (q Quota) {
	parts := float64(max(1, s))
	switch {
	case r.Unit == Concurrent:
		used *= parts // the counter holds this process's requests only
		if used > 0 {
			q.Reset = Never
		}
	case used > 0:
		q.Reset = c.maxWait(r.Limit, r)
	}
	q.Left = max(0, int64((float64(r.Limit)-used)/parts))
	return q
}

// maxOfflineLimits bounds the limits whose offline usage is recorded. The usage of further ones, usually of addresses, is lost.
const maxOfflineLimits = 10_000

// offlineUsage is what was reserved while the shared store was unavailable: one counter per limit, which drains as the store's
// does. It is recorded in batches, each from the first reservation after a Collect to the next Collect.
type offlineUsage struct {
	batch  uint64 // the number of the latest batch
	limits map[limitKey]*offlineLimit
}

type offlineLimit struct {
	limit      Limit
	counter    Counter
	budgetUsed func(*Limit, int)
}

// add records a reservation. Concurrent requests are not recorded, because they end by themselves.
func (u *offlineUsage) add(res *Reservation) {
	if u.limits == nil {
		u.batch, u.limits = u.batch+1, map[limitKey]*offlineLimit{}
	}
	res.batch = u.batch
	for _, l := range res.Limits {
		if l.Rule.Unit == Concurrent {
			continue
		}
		key := keyOf(l)
		o := u.limits[key]
		if o == nil {
			if len(u.limits) >= maxOfflineLimits {
				continue
			}
			o = &offlineLimit{counter: newCounter(l.Rule)}
			u.limits[key] = o
		}
		o.counter.advance(res.At, l.Rule)
		o.counter.add(res.Amount(l.Rule))
		o.limit, o.budgetUsed = *l, res.BudgetUsed
	}
}

// settle replaces the estimates of a reservation. It reports false if its batch was collected: the usage has to be settled
// where it went.
func (u *offlineUsage) settle(now time.Time, res *Reservation, tokens, spend int64) bool {
	if u.limits == nil || res.batch != u.batch {
		return false
	}
	for _, l := range res.Limits {
		if o := u.limits[keyOf(l)]; o != nil {
			o.counter.advance(now, l.Rule)
			o.counter.settle(res.Amount(l.Rule), res.Used(l.Rule.Unit, tokens, spend), res.At, l.Rule)
		}
	}
	return true
}

// A Correction is usage to add to a limit in the shared store.
type Correction struct {
	Limit  *Limit
	Amount float64
	At     time.Time // when it was used
	// BudgetUsed is to be called like that of a Reservation, if it is set.
	BudgetUsed func(budget *Limit, percent int)
}

// corrections returns what is left of recorded usage at a time.
func corrections(limits map[limitKey]*offlineLimit, now time.Time) (list []Correction) {
	for _, o := range limits {
		add := func(amount float64, at time.Time) {
			if amount != 0 {
				list = append(list, Correction{&o.limit, amount, at, o.budgetUsed})
			}
		}
		o.counter.advance(now, o.limit.Rule)
		switch c := o.counter.(type) {
		case *tokenBucket:
			add(c.used, now)
		case *meteredBucket:
			add(c.used, now)
		case *calendarBudget:
			add(float64(c.spent), now)
		case *slidingBudget:
			for age, spent := range c.spent {
				add(float64(spent), time.Unix(0, (c.newest-int64(age))*int64(o.limit.Rule.Interval())))
			}
		}
	}
	return list
}
