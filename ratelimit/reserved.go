package ratelimit

import "time"

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
