package ratelimit

import (
	"math"
	"time"
)

// A cell holds the facts of one limit. All its methods are called with the store's lock held.
type cell interface {
	// look brings the cell up to now and tells how much is used.
	look(now time.Time, r Rule) float64
	// take adds n, which may be below zero.
	take(n int64)
	// settle replaces what was taken at that time by what was really used.
	settle(taken, used int64, at time.Time, r Rule)
	// wait is how long it takes, from the time of the last look, until n are free if nobody else takes any; never means that
	// time alone does not help.
	wait(n int64, r Rule) time.Duration
	// until is that, if no request that is under way gives anything back.
	until(n int64, r Rule) time.Duration
}

// never is longer than any window.
const never = time.Duration(math.MaxInt64)

// A bucket is GCRA's: what is used drains evenly over the window. A clock that steps back stops the draining for once and
// nothing else; one that steps forward drains early, at most the whole bucket, once.
type bucket struct {
	used float64
	at   int64 // when used was true, in nanoseconds since 1970
}

func (b *bucket) look(now time.Time, r Rule) float64 {
	n := now.UnixNano()
	if passed := n - b.at; passed > 0 {
		b.used = max(0, b.used-float64(passed)*float64(r.Limit)/float64(r.Window))
	}
	b.at = n
	return b.used
}

func (b *bucket) take(n int64) { b.used += float64(n) }

func (b *bucket) settle(taken, used int64, _ time.Time, _ Rule) {
	b.used = max(0, b.used+float64(used-taken))
}

func (b *bucket) wait(n int64, r Rule) time.Duration { return b.until(n, r) }

func (b *bucket) until(n int64, r Rule) time.Duration {
	missing := b.used + float64(n) - float64(r.Limit)
	switch {
	case n > r.Limit:
		return never
	case missing <= 0:
		return 0
	}
	wait := math.Ceil(missing * float64(r.Window) / float64(r.Limit))
	if wait >= float64(never) { // a limit may have been made far smaller
		return never
	}
	return time.Duration(wait)
}

// places counts the requests that are under way, those of this process if it is one of several. They come free when one ends,
// which no clock tells.
type places struct{ held int64 }

func (p *places) look(time.Time, Rule) float64 { return float64(p.held) }

func (p *places) take(int64) { p.held++ }

func (p *places) settle(int64, int64, time.Time, Rule) { p.held = max(0, p.held-1) }

func (p *places) wait(n int64, r Rule) time.Duration { return p.until(n, r) }

// until takes n as what each request counts.
func (p *places) until(n int64, r Rule) time.Duration {
	if (p.held+1)*n <= r.Limit {
		return 0
	}
	return never
}

// Soon is the wait that is told where what is missing of a limit is only reserved by requests that are under way: it may come
// free when one of them ends, which no clock tells.
const Soon = time.Second

// reserved is how much of what counts as used belongs to requests that are under way, and may be given back. It is never more
// than what is used, so that what a process that has died reserved goes with that.
type reserved int64

func (r *reserved) take(n int64) { *r += reserved(n) }

func (r *reserved) settle(taken int64) { *r = max(0, *r-reserved(taken)) }

func (r *reserved) look(used int64) { *r = min(*r, reserved(used)) }

// wait is the earliest time at which n may be free, where until tells it without those requests.
func (r reserved) wait(n int64, until func(int64) time.Duration) time.Duration {
	wait := until(n)
	if r == 0 || wait <= Soon || wait == never {
		return wait
	}
	return max(Soon, until(n-int64(r)))
}

// A metered is a bucket of tokens, which are estimated before and known afterwards.
type metered struct {
	bucket
	reserved
}

func (m *metered) look(now time.Time, r Rule) float64 {
	used := m.bucket.look(now, r)
	m.reserved.look(int64(used))
	return used
}

func (m *metered) take(n int64) {
	m.bucket.take(n)
	m.reserved.take(n)
}

func (m *metered) settle(taken, used int64, at time.Time, r Rule) {
	m.bucket.settle(taken, used, at, r)
	m.reserved.settle(taken)
}

func (m *metered) wait(n int64, r Rule) time.Duration {
	return m.reserved.wait(n, func(n int64) time.Duration { return m.until(n, r) })
}
