package ratelimit

import (
	"slices"
	"sync"
	"time"
)

// maxDebts is of how many limits a process remembers what it took while the shared facts were away; of more, addresses as a
// rule, it is forgotten.
const maxDebts = 10_000

// debts are what was taken while the shared facts were away, to be added to them when they are back: for each limit a cell
// of its own, from which has gone what would have gone from the shared one. It is safe for concurrent use.
type debts struct {
	mu   sync.Mutex
	age  uint64 // how often they were gathered, and one
	owed map[string]*debt
}

type debt struct {
	limit   Limit
	cell    cell
	crossed func(*Limit, int)
}

// A due is a debt as it is paid: an amount, and when it was taken.
type due struct {
	*debt
	amount float64
	at     time.Time
}

// add notes what a request took of all its limits.
func (d *debts) add(t *Take) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil {
		d.age, d.owed = d.age+1, map[string]*debt{}
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

// of finds the debt of a limit, or begins it; nil if there is none. Places are not owed: they end with their requests.
func (d *debts) of(l *Limit) *debt {
	if l.Rule.Unit == Concurrent {
		return nil
	}
	key := sharedKey(l)
	one, ok := d.owed[key]
	if !ok && len(d.owed) < maxDebts {
		one = &debt{cell: newCell(l.Rule)}
		d.owed[key] = one
	}
	return one
}

// settle puts what was used in the place of what was taken. It tells whether it was in time: what was gathered must be
// settled where it went.
func (d *debts) settle(now time.Time, t *Take, tokens, spend int64) bool {
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
func (d *debts) gather(now time.Time) (all []due) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range d.owed {
		one.cell.look(now, one.limit.Rule)
		switch c := one.cell.(type) {
		case *bucket:
			all = append(all, due{one, c.used, now})
		case *metered:
			all = append(all, due{one, c.used, now})
		case *period:
			all = append(all, due{one, float64(c.spent), now})
		case *spending:
			for age, amount := range c.spent {
				at := time.Unix(0, (c.head-int64(age))*int64(width(one.limit.Rule)))
				all = append(all, due{one, float64(amount), at})
			}
		}
	}
	d.owed = nil
	all = slices.DeleteFunc(all, func(d due) bool { return d.amount == 0 })
	return all
}
