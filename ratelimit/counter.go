package ratelimit

import (
	"math"
	"time"
)

// A Counter holds the usage of one limit. Counters belong to a store, and are called with its lock held.
type Counter interface {
	// advance brings the counter up to a time and returns how much is used.
	advance(now time.Time, r Rule) float64
	// add adds n, which may be negative.
	add(n int64)
	// settle replaces what was reserved at a time by what was really used.
	settle(reserved, used int64, at time.Time, r Rule)
	// wait returns how long it takes, from the time of the last advance, until n may be free: as soon as running requests end,
	// if they use less than they reserved. It returns 0 if n are free now, and Never if time does not help.
	wait(n int64, r Rule) time.Duration
	// maxWait is like wait if running requests use all that they reserved.
	maxWait(n int64, r Rule) time.Duration
}

// Never is a wait that time alone does not end: a running request has to end, or the request can never fit.
const Never = time.Duration(math.MaxInt64)

// Soon is the wait for what is only reserved by running requests: it may be free again when one of them ends, and when that is
// cannot be known.
const Soon = time.Second

func newCounter(r Rule) Counter {
	switch {
	case r.Unit == Concurrent:
		return new(concurrency)
	case r.Unit == Requests:
		return new(tokenBucket)
	case r.Unit == Tokens:
		return new(meteredBucket)
	case r.Calendar != NoCalendar:
		return new(calendarBudget)
	}
	return new(slidingBudget)
}

// A tokenBucket is GCRA's: usage drains evenly over the window. A clock that steps back stops the draining once; one that
// steps forward drains too early, at most the whole bucket.
type tokenBucket struct {
	used float64
	at   int64 // when used was true, in nanoseconds since 1970
}

func (b *tokenBucket) advance(now time.Time, r Rule) float64 {
	n := now.UnixNano()
	if elapsed := n - b.at; elapsed > 0 {
		b.used = max(0, b.used-float64(elapsed)*float64(r.Limit)/float64(r.Window))
	}
	b.at = n
	return b.used
}

func (b *tokenBucket) add(n int64) { b.used += float64(n) }

func (b *tokenBucket) settle(reserved, used int64, _ time.Time, _ Rule) {
	b.used = max(0, b.used+float64(used-reserved))
}

func (b *tokenBucket) wait(n int64, r Rule) time.Duration { return b.maxWait(n, r) }

func (b *tokenBucket) maxWait(n int64, r Rule) time.Duration {
	missing := b.used + float64(n) - float64(r.Limit)
	switch {
	case n > r.Limit:
		return Never
	case missing <= 0:
		return 0
	}
	wait := math.Ceil(missing * float64(r.Window) / float64(r.Limit))
	if wait >= float64(Never) { // the limit may have been lowered far below the usage
		return Never
	}
	return time.Duration(wait)
}

// concurrency counts the running requests; those of this process, if several share the limit.
type concurrency struct{ running int64 }

func (c *concurrency) advance(time.Time, Rule) float64 { return float64(c.running) }

func (c *concurrency) add(int64) { c.running++ }

func (c *concurrency) settle(int64, int64, time.Time, Rule) { c.running = max(0, c.running-1) }

func (c *concurrency) wait(n int64, r Rule) time.Duration { return c.maxWait(n, r) }

// maxWait takes n as what each request counts.
func (c *concurrency) maxWait(n int64, r Rule) time.Duration {
	if (c.running+1)*n <= r.Limit {
		return 0
	}
	return Never
}

// reserved is the part of a counter's usage that running requests have reserved, and may give back. It is never more than the
// usage, so that the reservations of a process that has died expire with it.
type reserved int64

func (r *reserved) add(n int64) { *r += reserved(n) }

func (r *reserved) settle(n int64) { *r = max(0, *r-reserved(n)) }

func (r *reserved) limitTo(used int64) { *r = min(*r, reserved(used)) }

// wait returns the earliest time at which n may be free, given how long it takes if nothing is given back.
func (r reserved) wait(n int64, maxWait func(int64) time.Duration) time.Duration {
	wait := maxWait(n)
	if r == 0 || wait <= Soon || wait == Never {
		return wait
	}
	return max(Soon, maxWait(n-int64(r)))
}

// A meteredBucket is a token bucket for a model's tokens, which are estimated before the request and known after it.
type meteredBucket struct {
	tokenBucket
	reserved
}

func (m *meteredBucket) advance(now time.Time, r Rule) float64 {
	used := m.tokenBucket.advance(now, r)
	m.reserved.limitTo(int64(used))
	return used
}

func (m *meteredBucket) add(n int64) {
	m.tokenBucket.add(n)
	m.reserved.add(n)
}

func (m *meteredBucket) settle(reserved, used int64, at time.Time, r Rule) {
	m.tokenBucket.settle(reserved, used, at, r)
	m.reserved.settle(reserved)
}

func (m *meteredBucket) wait(n int64, r Rule) time.Duration {
	return m.reserved.wait(n, func(n int64) time.Duration { return m.maxWait(n, r) })
}
