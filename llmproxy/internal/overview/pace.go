package overview

import (
	"sync"
	"time"
)

const (
	// shortest is the time over which a pace is measured at least, longest that after which a measurement says nothing about now.
	shortest = 900 * time.Millisecond
	longest  = 10 * time.Second
)

// A pace is how fast the counters of replicas grow. It is measured between two looks at them, so that nothing happens while nobody looks.
type pace struct {
	mu     sync.Mutex
	counts map[string]count // by address
}

// A count is what a counter showed at a time, and how fast it had grown until then.
type count struct {
	at        time.Time
	value     int64
	perSecond float64
}

// of returns how fast a counter grows that now has a value; zero if nobody has looked at it lately.
func (p *pace) of(address string, value int64, now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, known := p.counts[address]
	age := now.Sub(before.at)
	switch {
	case known && age < shortest:
		return before.perSecond
	case p.counts == nil:
		p.counts = map[string]count{}
	}
	next := count{at: now, value: value}
	if known && age < longest && value >= before.value {
		next.perSecond = float64(value-before.value) / age.Seconds()
	}
	for other, c := range p.counts { // replicas of former configurations
		if now.Sub(c.at) > longest {
			delete(p.counts, other)
		}
	}
	p.counts[address] = next
	return next.perSecond
}
