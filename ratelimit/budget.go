package ratelimit

import "time"

// intervals is the number of parts of a sliding budget's window. The counter has one more, for the part that is running, so
// that it always covers the whole window: money counts for up to 1/60 of the window too long, and never too short.
const intervals = 60

// Interval is the length of one of the 60 parts of a sliding budget's window.
func (r Rule) Interval() time.Duration { return r.Window / intervals }

// A slidingBudget counts the money spent in a sliding window.
type slidingBudget struct {
	newest int64 // the number of the newest interval, since 1970
	spent  [intervals + 1]int64
	reserved
	alerted uint8 // the threshold that was reported last, in percent
	now     time.Time
}

func (s *slidingBudget) advance(now time.Time, r Rule) float64 {
	s.now = now
	interval := now.UnixNano() / int64(r.Interval())
	if interval < s.newest-1 {
		s.newest = interval // the clock stepped back: all that was spent stays, as if it had been spent up to now
	}
	s.shift(interval)
	var sum int64
	for _, n := range s.spent {
		sum += n
	}
	s.reserved.limitTo(sum)
	return float64(sum)
}

// shift makes an interval the newest, if it is later.
func (s *slidingBudget) shift(interval int64) {
	ahead := interval - s.newest
	if ahead <= 0 {
		return
	}
	ahead = min(ahead, intervals+1)
	copy(s.spent[ahead:], s.spent[:])
	clear(s.spent[:ahead])
	s.newest = interval
}

func (s *slidingBudget) add(n int64) {
	s.spent[0] += n
	s.reserved.add(n)
}

func (s *slidingBudget) settle(reserved, used int64, at time.Time, r Rule) {
	age := min(max(0, s.newest-at.UnixNano()/int64(r.Interval())), intervals)
	s.spent[age] = max(0, s.spent[age]+used-reserved)
	s.reserved.settle(reserved)
}

func (s *slidingBudget) wait(n int64, r Rule) time.Duration {
	return s.reserved.wait(n, func(n int64) time.Duration { return s.maxWait(n, r) })
}

// maxWait adds up what leaves the window, the oldest interval first.
func (s *slidingBudget) maxWait(n int64, r Rule) time.Duration {
	missing := n - r.Limit
	for _, spent := range s.spent {
		missing += spent
	}
	for age := intervals; age >= 0 && missing > 0; age-- {
		if missing -= s.spent[age]; missing <= 0 {
			leaves := time.Unix(0, (s.newest-int64(age)+intervals+1)*int64(r.Interval()))
			return leaves.Sub(s.now)
		}
	}
	if missing > 0 {
		return Never
	}
	return 0
}

// A calendarBudget counts the money spent in a calendar day or month.
type calendarBudget struct {
	period int64 // the number of the day or month
	spent  int64
	reserved
	alerted uint8
	now     time.Time
}

// periodOf returns the number of the day or month that contains a time, and when the next one begins.
func periodOf(now time.Time, c Calendar) (number int64, next time.Time) {
	year, month, day := now.UTC().Date()
	if c == Month {
		return int64(year)*12 + int64(month), time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
	}
	next = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
	return next.Unix() / 86400, next
}

func (c *calendarBudget) advance(now time.Time, r Rule) float64 {
	c.now = now
	switch period, _ := periodOf(now, r.Calendar); {
	case period > c.period:
		*c = calendarBudget{period: period, now: now}
	case period < c.period-1:
		c.period = period // the clock stepped back by more than one period: all that was spent counts for the current one
	}
	c.reserved.limitTo(c.spent)
	return float64(c.spent)
}

func (c *calendarBudget) add(n int64) {
	c.spent += n
	c.reserved.add(n)
}

func (c *calendarBudget) settle(reserved, used int64, at time.Time, r Rule) {
	if period, _ := periodOf(at, r.Calendar); period >= c.period {
		c.spent = max(0, c.spent+used-reserved)
		c.reserved.settle(reserved)
	}
}

func (c *calendarBudget) wait(n int64, r Rule) time.Duration {
	return c.reserved.wait(n, func(n int64) time.Duration { return c.maxWait(n, r) })
}

func (c *calendarBudget) maxWait(n int64, r Rule) time.Duration {
	switch {
	case c.spent+n <= r.Limit:
		return 0
	case n > r.Limit:
		return Never
	}
	_, next := periodOf(c.now, r.Calendar)
	return next.Sub(c.now)
}

// alert returns the threshold, 80 or 100 percent, that a budget has reached since the last call, or 0. What is only reserved
// does not count. A budget that falls below a threshold reports it again when it is reached again.
func alert(c Counter, used float64, r Rule) int {
	var last *uint8
	switch c := c.(type) {
	case *slidingBudget:
		last, used = &c.alerted, used-float64(c.reserved)
	case *calendarBudget:
		last, used = &c.alerted, used-float64(c.reserved)
	default:
		return 0
	}
	reached := uint8(0)
	switch limit := float64(r.Limit); {
	case used >= limit:
		reached = 100
	case used >= 0.8*limit:
		reached = 80
	}
	risen := reached > *last
	*last = reached
	if !risen {
		return 0
	}
	return int(reached)
}
