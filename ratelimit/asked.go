package ratelimit

import (
	"net/netip"
	"time"
)

// askedWait is how long is told to wait who does not fit only because of requests whose answer is still to come.
const askedWait = time.Second

// asked is what requests that are asking the shared facts want of each limit. Where many ask at once, some have no time to
// wait for the answer: those that this process then decides by itself must leave what the others may be given.
type asked map[subject]int64

// A subject is whose facts a limit has.
type subject struct {
	id      string
	address netip.Addr
	rule    Rule
}

func subjectOf(l *Limit) subject {
	r := l.Rule
	r.Limit = 0
	return subject{l.ID, l.Address, r}
}

// add adds what a request wants, so many times: once when it asks, and less once when it knows.
func (a asked) add(t *Take, times int64) {
	for _, l := range t.Limits {
		who := subjectOf(l)
		if a[who] += times * t.want(l.Rule); a[who] == 0 {
			delete(a, who)
		}
	}
}

// wait is how long it takes until n are free besides what is asked for.
func (a asked) wait(s share, c cell, n int64, l *Limit) time.Duration {
	wait := s.wait(c, n, l.Rule)
	if wait > 0 || len(a) == 0 {
		return wait
	}
	if others := a[subjectOf(l)]; others > 0 && s.wait(c, n+others, l.Rule) > 0 {
		return askedWait
	}
	return 0
}
