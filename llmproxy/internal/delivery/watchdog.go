package delivery

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
)

// The waits of an attempt, where the upstream's configuration does not say otherwise.
const (
	firstTokenNotLast = 30 * time.Second // another target is left
	firstTokenLast    = 5 * time.Minute
	idleDefault       = 60 * time.Second
	wholeDefault      = 10 * time.Minute // an answer that is no stream shows no sign of life until it is complete
)

// interruptAfter is how long a write to the client may go on after its attempt was ended.
const interruptAfter = time.Second

// Why an attempt was ended, if not by its client.
var (
	errSilent    = errors.New("the upstream was silent for too long")
	errTimeout   = errors.New("the attempt took longer than its timeout")
	errDeadline  = errors.New("the deadline of the request has passed")
	errStuck     = errors.New("the upstream makes no progress on any request")
	errDraining  = errors.New("the gateway is shutting down")
	errNotRead   = errors.New("the client does not read its answer")
	errLocalOnly = errors.New("the request must stay local, and the upstream is remote")
)

// A watchdog ends an attempt that takes too long. Its one timer also has a waiting client pinged, and a silent replica
// suspected of being stuck. Its lock is held for decisions only, never while anything is sent.
type watchdog struct {
	a     *attempt
	timer *time.Timer
	idle  time.Duration // the longest silence between two reads of the answer
	read  atomic.Int64  // when the last read was, as a duration since the attempt was started

	mu      sync.Mutex
	phase   phase
	total   time.Time // when the attempt must be over; zero for no bound
	until   time.Time // when the first content must be there
	half    time.Time // when half of the wait for it is over, and silence is suspicious
	because error     // what it means when until has passed
}

// A phase is what a watchdog watches for.
type phase uint8

const (
	waiting   phase = iota // for the first content
	answering              // for silence
	ending                 // for a client that holds up the end
	over
)

// start watches over an attempt that waits for its first content.
func (w *watchdog) start(a *attempt) {
	timers := a.u.Timers
	w.a, w.idle = a, cmp.Or(timers.Idle, idleDefault)
	if timers.Total > 0 {
		w.total = a.started.Add(timers.Total)
	}
	w.await(a.forContent())
}

// await sets how long the first content may take from now on.
func (w *watchdog) await(d time.Duration) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until, w.half, w.because = now.Add(d), now.Add(d/2), errSilent
	if deadline := w.a.ask.Deadline; !deadline.IsZero() && deadline.Before(w.until) {
		w.until, w.because = deadline, errDeadline
	}
	w.set(min(w.until.Sub(now), d/2, w.a.x.UntilPing(w.a.client, now)), now)
}

// set sets the timer; the caller holds the lock.
func (w *watchdog) set(wait time.Duration, now time.Time) {
	if !w.total.IsZero() {
		wait = min(wait, w.total.Sub(now))
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.fire)
	} else {
		w.timer.Reset(wait)
	}
}

// answering goes over from waiting for the first content to watching for silence.
func (w *watchdog) answering() {
	w.progress()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == waiting {
		w.phase = answering
		w.set(w.idle, time.Now())
	}
}

// progress notes that something was read of the answer. It touches no lock and no timer: there may be many reads a second.
func (w *watchdog) progress() { w.read.Store(int64(time.Since(w.a.started))) }

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = over
	w.timer.Stop()
}

// answered reports whether the answer has begun.
func (w *watchdog) answered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase == answering
}

// fire is called when the timer has expired. What takes time is done without the lock, and after the timer was set anew.
func (w *watchdog) fire() {
	now := time.Now()
	do := w.due(now)
	switch a := w.a; {
	case do.end != nil:
		a.end(do.end)
	case do.interrupt:
		a.client.Interrupt()
	case do.suspect:
		a.Health.suspect(a.u, a.replica)
	}
}

// An action is what is to be done when the timer has expired.
type action struct {
	end                error
	interrupt, suspect bool
}

// due decides what is to be done now, and sets the timer for what comes next.
func (w *watchdog) due(now time.Time) (do action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase <= answering && !w.total.IsZero() && !now.Before(w.total) {
		return action{end: errTimeout}
	}
	switch w.phase {
	case waiting:
		if !now.Before(w.until) {
			return action{end: w.because}
		}
		next := w.until
		if now.Before(w.half) {
			next = w.half
		} else {
			do.suspect = true
		}
		untilPing := w.a.x.UntilPing(w.a.client, now)
		if untilPing == 0 { // Ping does not block, and the record does not change before stop has returned
			w.a.client.Ping()
			untilPing = exchange.PingEvery
		}
		w.set(min(next.Sub(now), untilPing), now)
	case answering:
		silent := now.Sub(w.a.started) - time.Duration(w.read.Load())
		switch {
		case silent < w.idle:
			w.set(w.idle-silent, now)
		case w.a.client.Busy():
			return action{end: errNotRead}
		default:
			return action{end: errSilent}
		}
	case ending:
		do.interrupt = w.a.client.Busy()
	}
	return do
}

// end ends an attempt, unless it is over. A write that its client holds up is interrupted after a moment, so that neither the
// slot nor the handler waits for a client that does not read.
func (a *attempt) end(why error) {
	w := &a.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase < ending {
		if w.phase == answering {
			w.timer.Reset(interruptAfter)
		}
		w.phase = ending
	}
	a.cancel(why)
}

// forContent is how long the first content may take.
func (a *attempt) forContent() time.Duration {
	switch timers := a.u.Timers; {
	case !a.rec.Stream:
		return cmp.Or(timers.Total, wholeDefault)
	case a.last:
		return cmp.Or(timers.FirstToken, firstTokenLast)
	default:
		return cmp.Or(timers.FirstToken, firstTokenNotLast)
	}
}

// forLoad is how long a model may take to load before another target is tried, or, where none is left, at all.
func (a *attempt) forLoad() time.Duration {
	if a.last {
		return a.u.LoadTimeout()
	}
	return cmp.Or(a.u.Timers.FirstToken, firstTokenNotLast)
}

// Streams implements replica.Attempt.
func (a *attempt) Streams() bool { return a.rec.Stream }

// Prefill implements replica.Attempt.
func (a *attempt) Prefill() time.Duration {
	if a.watchdog.answered() {
		return 0
	}
	return a.u.PrefillTime(a.size)
}

// Abort implements replica.Attempt. An attempt that has nowhere else to go may go on.
func (a *attempt) Abort() {
	if a.watchdog.answered() || !a.last {
		a.end(errStuck)
	}
}
