package gateway

import (
	"errors"
	"sync"
	"time"
)

// The waits of an attempt, where the upstream's configuration does not say otherwise.
const (
	firstTokenNotLast = 30 * time.Second // another target is left
	firstTokenLast    = 5 * time.Minute
	idleDefault       = 60 * time.Second
	wholeDefault      = 10 * time.Minute // an answer that is no stream shows no sign of life until it is complete
)

// beatEvery is how long the client of a stream waits until it gets the first comment, and then the next.
const beatEvery = 15 * time.Second

// Why an attempt's context ended, if it was not the client.
var (
	errSilent   = errors.New("the upstream was silent for too long")
	errTotal    = errors.New("the attempt took longer than its timeout")
	errOverdue  = errors.New("the request's deadline is over")
	errWedged   = errors.New("the upstream makes no progress on any request")
	errDraining = errors.New("the gateway is shutting down")
	errStays    = errors.New("the request must stay local, and the upstream is not")
)

// A patience is how long an attempt waits for the first content. Its timer also gives the client a sign of life now and then,
// and watches for silence when the answer is under way.
type patience struct {
	watch *time.Timer
	mu    sync.Mutex
	until time.Time
	half  time.Time // when half of it is over, and silence is suspicious
	why   error     // what it means when the time is over
	begun time.Time // when the answer began
	over  bool
}

// await sets how long is waited from now on.
func (a *attempt) await(d time.Duration) {
	now := time.Now()
	p := &a.patience
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.half, p.why = now.Add(d), now.Add(d/2), errSilent
	if c := a.c; !c.deadline.IsZero() && c.deadline.Before(p.until) {
		p.until, p.why = c.deadline, errOverdue
	}
	wait := a.c.untilBeat(now, min(p.until.Sub(now), d/2))
	if p.watch == nil {
		p.watch = time.AfterFunc(wait, a.expire)
	} else {
		p.watch.Reset(wait)
	}
}

// expire is called when the timer is over.
func (a *attempt) expire() {
	p := &a.patience
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case p.over:
	case !p.begun.IsZero():
		if now.Sub(p.begun) >= a.idle { // else it was over just when the answer began
			a.life.end(errSilent)
		}
	case now.Before(p.until):
		a.waitOn(now)
	default:
		a.life.end(p.why)
	}
}

// waitOn gives the client its sign of life, if it is time for one, and suspects the replica once half of the patience is over.
func (a *attempt) waitOn(now time.Time) {
	p := &a.patience
	next := p.until
	if now.Before(p.half) {
		next = p.half
	} else {
		a.suspect()
	}
	if a.c.untilBeat(now, time.Hour) <= time.Millisecond {
		a.c.pulse.Beat(a.c.w)
	}
	p.watch.Reset(a.c.untilBeat(now, next.Sub(now)))
}

// begin goes over from waiting for the first content to watching for silence.
func (p *patience) begin(idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = time.Now()
	p.watch.Reset(idle)
}

func (p *patience) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.watch.Stop()
}

// forContent is how long the first content may take.
func (a *attempt) forContent() time.Duration {
	switch timers := a.u.Timers; {
	case !a.c.rec.Stream:
		return or(timers.Total, wholeDefault)
	case a.last:
		return or(timers.FirstToken, firstTokenLast)
	default:
		return or(timers.FirstToken, firstTokenNotLast)
	}
}

// forLoad is how long a model may take to load before another target is tried, or, where none is left, at all.
func (a *attempt) forLoad() time.Duration {
	if a.last {
		return a.u.LoadTimeout()
	}
	return or(a.u.Timers.FirstToken, firstTokenNotLast)
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// untilBeat bounds a wait by the time to the client's next sign of life, if it is to get any.
func (c *call) untilBeat(now time.Time, wait time.Duration) time.Duration {
	if !c.rec.Stream || c.task.endpoint.AnyAnswer {
		return wait
	}
	last := c.pulse.Last()
	if last.IsZero() {
		last = c.rec.Started
	}
	return min(wait, max(last.Add(beatEvery).Sub(now), time.Millisecond))
}

// errLeft tells that a wait ended because nobody is there to answer to any more.
var errLeft = errors.New("the client left, or the gateway is shutting down")

// wait waits for a channel, at most for so long; came is false if that was over. Meanwhile the client gets its signs of life.
func wait[T any](c *call, channel <-chan T, limit time.Duration) (value T, came bool, err error) {
	over := time.NewTimer(limit)
	defer over.Stop()
	never := limit + time.Hour // where no signs of life are sent
	beat := time.NewTimer(c.untilBeat(time.Now(), never))
	defer beat.Stop()
	for {
		select {
		case value = <-channel:
			return value, true, nil
		case <-over.C:
			return value, false, nil
		case now := <-beat.C:
			c.pulse.Beat(c.w)
			beat.Reset(c.untilBeat(now, never))
		case <-c.r.Context().Done():
			return value, false, errLeft
		case <-c.drained():
			return value, false, errLeft
		}
	}
}
