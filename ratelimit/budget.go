package ratelimit

import "time"

// slots is into how many a sliding budget is cut. The slot that is running is one more, so that the whole window is always
// covered: money counts for at most 1/60 of the window too long, and never too short.
const slots = 60

// A spending is what was spent in a sliding window.
type spending struct {
	head  int64 // the number of the newest slot since 1970
	spent [slots + 1]int64
	reserved
	level uint8 // what was told of the budget, in percent
	now   time.Time
}

func width(r Rule) time.Duration { return r.Window / slots }

func (s *spending) look(now time.Time, r Rule) float64 {
	s.now = now
	slot := now.UnixNano() / int64(width(r))
	if slot < s.head-1 {
		s.head = slot // the clock stepped back: what was spent stays spent, and goes as if it were of now
	}
	s.advance(slot)
	var sum int64
	for _, n := range s.spent {
		sum += n
	}
	s.reserved.look(sum)
	return float64(sum)
}

// advance makes a slot the newest.
func (s *spending) advance(slot int64) {
	ahead := slot - s.head
	if ahead <= 0 {
		return
	}
	ahead = min(ahead, slots+1)
	copy(s.spent[ahead:], s.spent[:])
	clear(s.spent[:ahead])
	s.head = slot
}

func (s *spending) take(n int64) {
	s.spent[0] += n
	s.reserved.take(n)
}

func (s *spending) settle(taken, used int64, at time.Time, r Rule) {
	age := min(max(0, s.head-at.UnixNano()/int64(width(r))), slots)
	s.spent[age] = max(0, s.spent[age]+used-taken)
	s.reserved.settle(taken)
}

func (s *spending) wait(n int64, r Rule) time.Duration {
	return s.reserved.wait(n, func(n int64) time.Duration { return s.until(n, r) })
}

// until adds up what leaves the window, the oldest first.
func (s *spending) until(n int64, r Rule) time.Duration {
	missing := n - r.Limit
	for _, spent := range s.spent {
		missing += spent
	}
	for age := slots; age >= 0 && missing > 0; age-- {
		if missing -= s.spent[age]; missing <= 0 {
			leaves := time.Unix(0, (s.head-int64(age)+slots+1)*int64(width(r)))
			return leaves.Sub(s.now)
		}
	}
	if missing > 0 {
		return never
	}
	return 0
}

// A period is what was spent in a day or a month of the calendar.
type period struct {
	number int64 // of the day or month
	spent  int64
	reserved
	level uint8
	now   time.Time
}

// periodOf numbers the days or months, and tells when the next one begins.
func periodOf(now time.Time, c Calendar) (number int64, next time.Time) {
	year, month, day := now.UTC().Date()
	if c == Month {
		return int64(year)*12 + int64(month), time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
	}
	next = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
	return next.Unix() / 86400, next
}

func (p *period) look(now time.Time, r Rule) float64 {
	p.now = now
	switch number, _ := periodOf(now, r.Calendar); {
	case number > p.number:
		*p = period{number: number, now: now}
	case number < p.number-1:
		p.number = number // the clock stepped back by more than an edge: what was spent counts for now
	}
	p.reserved.look(p.spent)
	return float64(p.spent)
}

func (p *period) take(n int64) {
	p.spent += n
	p.reserved.take(n)
}

func (p *period) settle(taken, used int64, at time.Time, r Rule) {
	if number, _ := periodOf(at, r.Calendar); number >= p.number {
		p.spent = max(0, p.spent+used-taken)
		p.reserved.settle(taken)
	}
}

func (p *period) wait(n int64, r Rule) time.Duration {
	return p.reserved.wait(n, func(n int64) time.Duration { return p.until(n, r) })
}

func (p *period) until(n int64, r Rule) time.Duration {
	switch {
	case p.spent+n <= r.Limit:
		return 0
	case n > r.Limit:
		return never
	}
	_, next := periodOf(p.now, r.Calendar)
	return next.Sub(p.now)
}
