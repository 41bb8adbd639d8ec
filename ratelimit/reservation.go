package ratelimit

import "time"

// A Reservation is what one request needs of the limits that apply to it, and the result. A store's Take reserves the
// estimate; its Settle replaces the estimate by the real usage. It belongs to one request and is not safe for concurrent use.
type Reservation struct {
	// Limits all apply: if one does not allow the request, nothing is reserved from any.
	Limits []*Limit
	// Tokens is the estimated number of tokens, prompt and answer.
	Tokens int64
	// Prompt is the part of Tokens that is certain. If a limit is smaller than Tokens, the whole limit is reserved, because the
	// answer may be shorter; but a prompt that is larger than a limit never fits.
	Prompt int64
	// Spend is the estimated cost, in billionths of a dollar.
	Spend int64
	// BudgetUsed, if set, is called when 80 and when 100 percent of a budget are spent, once each. It may be called from
	// another goroutine, and must not block.
	BudgetUsed func(budget *Limit, percent int)
	// Refund makes Settle return all that was reserved, including the request itself, because the request turned out to be invalid.
	Refund bool

	// At is the time of the reservation; zero if it was denied or is settled.
	At time.Time
	// Left is what is left of each limit after Take or Peek.
	Left []Quota
	// Denied is the limit that does not allow the request: the one with the longest wait. It is nil if all limits do.
	Denied *Limit
	// Wait is how long to wait for the denied limit; Never if time alone does not help.
	Wait time.Duration
	// Lease names the request's share of concurrency limits in a store outside this process. That store sets it.
	Lease string

	share share
	batch uint64 // the batch of offline usage that contains it; 0 if it was not reserved offline
}

// A Quota is what is left of a limit.
type Quota struct {
	Left int64
	// Reset is how long it takes until all of it is free again: zero if it is, Never for concurrency in use.
	Reset time.Duration
}

// Amount returns how much the reservation takes of a limit.
func (res *Reservation) Amount(r Rule) int64 {
	switch r.Unit {
	case Tokens:
		return max(min(res.Tokens, r.Limit), res.Prompt)
	case Spend:
		return res.Spend
	}
	return 1
}

// Used returns how much the request has really used of a limit in a unit.
func (res *Reservation) Used(u Unit, tokens, spend int64) int64 {
	if res.Refund {
		return 0
	}
	switch u {
	case Tokens:
		return tokens
	case Spend:
		return spend
	}
	return 1
}

// Observe fills in what is left by the counters that a shared store reports for the reservation's limits.
func (res *Reservation) Observe(now time.Time, counters []Counter) {
	left := res.quotas()
	for i, l := range res.Limits {
		left[i] = res.share.quota(counters[i], counters[i].advance(now, l.Rule), l.Rule)
	}
}

// Deny fills in the limit that does not allow the request, by the counters that Observe got.
func (res *Reservation) Deny(counters []Counter) {
	for i, l := range res.Limits {
		if wait := counters[i].wait(res.Amount(l.Rule), l.Rule); wait > 0 {
			res.deny(l, wait)
		}
	}
	if res.Denied == nil && len(res.Limits) > 0 { // in nanoseconds, a window has moved on since the store decided
		res.deny(res.Limits[0], time.Millisecond)
	}
}

// deny keeps the limit with the longest wait.
func (res *Reservation) deny(l *Limit, wait time.Duration) {
	if res.Denied == nil || wait > res.Wait {
		res.Denied, res.Wait = l, wait
	}
}

// quotas returns Left with one element per limit.
func (res *Reservation) quotas() []Quota {
	if cap(res.Left) < len(res.Limits) {
		res.Left = make([]Quota, len(res.Limits))
	}
	res.Left = res.Left[:len(res.Limits)]
	return res.Left
}
