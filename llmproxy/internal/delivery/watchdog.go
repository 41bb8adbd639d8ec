package delivery

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
)

// The timeouts of an attempt, unless the upstream's configuration sets others.
const (
	firstTokenTimeout     = 30 * time.Second
	lastFirstTokenTimeout = 5 * time.Minute // if there is no other target
	idleTimeout           = 60 * time.Second
	wholeAnswerTimeout    = 10 * time.Minute // an answer that is not a stream sends nothing until it is complete
)

// maxHeartbeats is for how many idle timeouts comments and events without content can keep an answer alive.
const maxHeartbeats = 4

// interruptAfter is how long a write to the client may continue after its attempt was ended.
const interruptAfter = time.Second

// The reasons for which the gateway ends an attempt.
var (
	errSilent    = errors.New("the upstream was silent for too long")
	errTimeout   = errors.New("the attempt took longer than its timeout")
	errDeadline  = errors.New("the deadline of the request has passed")
	errStuck     = errors.New("the upstream makes no progress on any request")
	errDraining  = errors.New("the gateway is shutting down")
	errNotRead   = errors.New("the client does not read its answer")
	errOver      = errors.New("the answer was complete, but the upstream kept it open")
	errLocalOnly = errors.New("the request must stay local, and the upstream is remote")
)

// A watchdog ends an attempt that takes too long. It also pings a waiting client and reports a silent replica that may be stuck. It
// needs only one timer for all of that. Its lock is not held during network I/O.
type watchdog struct {
	a           *attempt
	timer       *time.Timer
	idle        time.Duration // the longest allowed time between two reads of the answer
	lastRead    atomic.Int64  // as a duration since the attempt started
	lastContent atomic.Int64  // the same for the last read that had content

	mu           sync.Mutex
	phase        phase
	quiet        time.Duration // the longest allowed time between two reads that have content
	ending       bool          // the answer is complete
	total        time.Time     // when the attempt must be over; zero if there is no limit
	contentDue   time.Time     // when the first content must have arrived
	suspiciousAt time.Time     // when half of that time has passed without content
	ifLate       error         // the reason to end the attempt at contentDue
}

// A phase is what a watchdog waits for.
type phase uint8

const (
	awaitingContent phase = iota // the first content
	relaying                     // the next read of the answer
	ended                        // the end of the last write to the client
	stopped                      // nothing
)

// start starts the watchdog of an attempt.
func (w *watchdog) start(a *attempt) {
	timers := a.u.Timers
	w.a, w.idle = a, cmp.Or(timers.Idle, idleTimeout)
	w.quiet = max(w.idle, min(cmp.Or(timers.FirstToken, lastFirstTokenTimeout), maxHeartbeats*w.idle))
	if timers.Total > 0 {
		w.total = a.started.Add(timers.Total)
	}
	w.awaitContent(a.firstContentTimeout())
}

// awaitContent sets how long the first content may take from now on.
func (w *watchdog) awaitContent(limit time.Duration) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.contentDue, w.suspiciousAt, w.ifLate = now.Add(limit), now.Add(limit/2), errSilent
	if deadline := w.a.planned.Deadline; !deadline.IsZero() && deadline.Before(w.contentDue) {
		w.contentDue, w.ifLate = deadline, errDeadline
	}
	w.setTimer(min(w.contentDue.Sub(now), limit/2, w.a.x.UntilPing(w.a.client, now)), now)
}

// setTimer sets the timer. The caller must hold the lock.
func (w *watchdog) setTimer(wait time.Duration, now time.Time) {
	if !w.total.IsZero() {
		wait = min(wait, w.total.Sub(now))
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.timerFired)
	} else {
		w.timer.Reset(wait)
	}
}

// committed ends the wait for the first content. From now on, the watchdog ends the attempt if the upstream is silent for too long.
func (w *watchdog) committed() {
	w.progress(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == awaitingContent {
		w.phase = relaying
		w.setTimer(w.idle, time.Now())
	}
}

// progress notes a read of the answer. It uses neither the lock nor the timer, because there may be many reads per second.
func (w *watchdog) progress(content bool) {
	now := int64(time.Since(w.a.started))
	w.lastRead.Store(now)
	if content {
		w.lastContent.Store(now)
	}
}

// answerEnding ends the attempt after the grace period if nothing more of the answer comes.
func (w *watchdog) answerEnding(grace time.Duration) {
	w.progress(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == relaying {
		w.quiet, w.ending = grace, true
		w.setTimer(grace, time.Now())
	}
}

// stop stops the watchdog. No ping starts afterwards.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = stopped
	w.timer.Stop()
}

// isRelaying reports whether the answer has been committed and the attempt has not ended.
func (w *watchdog) isRelaying() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase == relaying
}

func (w *watchdog) timerFired() {
	do, a := w.check(time.Now()), w.a
	switch {
	case do.end != nil:
		a.end(do.end)
	case do.interrupt:
		a.client.Interrupt()
	case do.suspect:
		a.Health.suspect(a.u, a.replica)
	}
}

// An action is what the watchdog does without its lock.
type action struct {
	end                error // the reason to end the attempt; nil to let it continue
	interrupt, suspect bool
}

// check returns what must be done now, and sets the timer for the next check.
func (w *watchdog) check(now time.Time) action {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase <= relaying && !w.total.IsZero() && !now.Before(w.total) {
		return action{end: errTimeout}
	}
	switch w.phase {
	case awaitingContent:
		return w.checkContent(now)
	case relaying:
		return w.checkSilence(now)
	case ended:
		return action{interrupt: w.a.client.Busy()}
	}
	return action{}
}

// checkSilence ends an attempt whose upstream sends nothing, or for a longer time nothing but signs of life.
func (w *watchdog) checkSilence(now time.Time) action {
	elapsed := now.Sub(w.a.started)
	silent, quiet := elapsed-time.Duration(w.lastRead.Load()), elapsed-time.Duration(w.lastContent.Load())
	busy := w.a.client.Busy()
	switch left := min(w.idle-silent, w.quiet-quiet); {
	case left > 0:
		w.setTimer(left, now)
		return action{}
	case busy && w.ending && silent < w.idle: // the rest cannot be read before the client has read what it got
		w.setTimer(min(w.quiet, w.idle-silent), now)
		return action{}
	case busy:
		return action{end: errNotRead}
	case w.ending:
		return action{end: errOver}
	}
	return action{end: errSilent}
}

func (w *watchdog) checkContent(now time.Time) action {
	if !now.Before(w.contentDue) {
		return action{end: w.ifLate}
	}
	suspect, next := true, w.contentDue
	if now.Before(w.suspiciousAt) {
		suspect, next = false, w.suspiciousAt
	}
	untilPing := w.a.x.UntilPing(w.a.client, now)
	if untilPing == 0 { // under the lock, so that stop keeps its promise; Ping does not block
		w.a.client.Ping()
		untilPing = exchange.PingEvery
	}
	w.setTimer(min(next.Sub(now), untilPing), now)
	return action{suspect: suspect}
}

// end ends an attempt, unless it is already over. If the client blocks a write, the write is interrupted after a moment, so that
// neither the slot nor the handler has to wait for a client that does not read.
func (a *attempt) end(cause error) {
	w := &a.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase < ended {
		if w.phase == relaying {
			w.timer.Reset(interruptAfter)
		}
		w.phase = ended
	}
	a.cancel(cause)
}

// firstContentTimeout returns how long the first content may take.
func (a *attempt) firstContentTimeout() time.Duration {
	switch timers := a.u.Timers; {
	case !a.rec.Stream:
		return cmp.Or(timers.Total, wholeAnswerTimeout)
	case a.last:
		return cmp.Or(timers.FirstToken, lastFirstTokenTimeout)
	default:
		return cmp.Or(timers.FirstToken, firstTokenTimeout)
	}
}

// loadTimeout returns how long the attempt waits for its model to load. If there is another target, that is less than the load
// itself may take.
func (a *attempt) loadTimeout() time.Duration {
	if a.last {
		return a.u.LoadTimeout()
	}
	return cmp.Or(a.u.Timers.FirstToken, firstTokenTimeout)
}

// Streams implements replica.Attempt.
func (a *attempt) Streams() bool { return a.rec.Stream }

// Prefill implements replica.Attempt.
func (a *attempt) Prefill() time.Duration {
	if a.watchdog.isRelaying() {
		return 0
	}
	return a.u.PrefillTime(a.size)
}

// Abort implements replica.Attempt. An attempt that has nowhere else to go may continue.
func (a *attempt) Abort() {
	if a.watchdog.isRelaying() || !a.last {
		a.end(errStuck)
	}
}
