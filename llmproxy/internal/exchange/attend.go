package exchange

import (
	"cmp"
	"sync"
	"time"
)

// DefaultReadTimeout is how long a client may read nothing of its answer if no upstream's configuration says otherwise.
const DefaultReadTimeout = 5 * time.Minute

// ReadLimits bound how long the client may take to read its answer. The upstream that answers sets them.
type ReadLimits struct {
	// Idle is how long the client may read nothing. Default: DefaultReadTimeout.
	Idle time.Duration
	// Due is when all of the answer must have been read; zero if there is no limit.
	Due time.Time
}

// Attend watches a client while an answer is sent to it that no attempt is watching: one that another request leads, or that is
// recorded or stored. It pings the client of a stream while there is nothing to send, and interrupts one that does not read. The
// caller must call stop when the answer has been sent.
func (x *Exchange) Attend(to Client) (stop func()) {
	a := &attendant{x: x, to: to}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timer = time.AfterFunc(a.next(time.Now()), a.check)
	return a.stop
}

// An attendant is the state of Attend.
type attendant struct {
	x  *Exchange
	to Client

	mu       sync.Mutex
	timer    *time.Timer
	stopped  bool
	blocked  time.Time // since when the same write has been in progress; zero if none is
	lastSent time.Time // before that write
}

func (a *attendant) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.timer.Stop()
}

func (a *attendant) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return
	}
	now := time.Now()
	switch last := a.to.LastSent(); {
	case !a.to.Busy():
		a.blocked = time.Time{}
		if a.x.UntilPing(a.to, now) == 0 {
			a.to.Ping()
		}
	case a.blocked.IsZero() || last.After(a.lastSent):
		a.blocked, a.lastSent = now, last
	case !now.Before(a.due()):
		a.to.Interrupt()
		return
	}
	a.timer.Reset(a.next(now))
}

// due returns when a client that does not read is interrupted.
func (a *attendant) due() time.Time {
	due := a.blocked.Add(cmp.Or(a.x.ReadLimits.Idle, DefaultReadTimeout))
	if total := a.x.ReadLimits.Due; !total.IsZero() && total.Before(due) {
		return total
	}
	return due
}

// next returns how long to wait before the next check.
func (a *attendant) next(now time.Time) time.Duration {
	wait := PingEvery
	if !a.blocked.IsZero() {
		wait = a.due().Sub(now)
	} else if total := a.x.ReadLimits.Due; !total.IsZero() {
		wait = min(wait, total.Sub(now))
	}
	return max(min(wait, a.x.UntilPing(a.to, now), PingEvery), time.Second)
}
