package ratelimit

import (
	"math"
	"time"
)

// A share is among how many processes a limit is divided while they cannot ask what the others take; zero and one mean that
// nobody else is there. Each counts what it takes that many times, as if the others took the same meanwhile. So it takes at
// most its part of what was left when it last heard of the limit, and of what comes free since; and facts stay what they are
// when the others come within reach again.
type share int64

// shareWait is the longest that a process is told to wait only because of the others' shares: they may be within reach again
// at any moment.
const shareWait = time.Minute

// times is n as often as it counts.
func (s share) times(n int64) int64 {
	if s > 1 && n > math.MaxInt64/int64(s) {
		return math.MaxInt64
	}
	return n * max(1, int64(s))
}

// needs is how much must be free for n to fit. What fits the limit, but not its part, fits when nothing is used, so that a
// limit smaller than the number of processes, or a part smaller than a prompt, does not shut everybody out; it drains
// the longer for it. Not so for money.
func (s share) needs(n int64, r Rule) int64 {
	all := s.times(n)
	if all > r.Limit && n <= r.Limit && r.Unit != Spend {
		return r.Limit
	}
	return all
}

// wait is how long it takes until n are free.
func (s share) wait(c cell, n int64, r Rule) time.Duration {
	wait := c.wait(s.needs(n, r), r)
	if s <= 1 || wait <= shareWait {
		return wait
	}
	return max(c.wait(n, r), shareWait)
}

// state tells what is left of a limit for this process.
func (s share) state(c cell, used float64, r Rule) (left State) {
	parts := float64(max(1, s))
	switch {
	case r.Unit == Concurrent:
		used *= parts // these facts are the process's own
		if used > 0 {
			left.Reset = never
		}
	case used > 0:
		left.Reset = c.until(r.Limit, r)
	}
	left.Left = max(0, int64((float64(r.Limit)-used)/parts))
	return left
}
