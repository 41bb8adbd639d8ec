package delivery

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// The timeouts of an attempt, unless the upstream's configuration sets others.
const (
	firstTokenTimeout     = 30 * time.Second // and the time to read the prompt
	lastFirstTokenTimeout = 10 * time.Minute // if there is no other target
	idleTimeout           = 5 * time.Minute  // a model may think, or a server hold back the arguments of a tool call
	wholeAnswerTimeout    = 10 * time.Minute // an answer that is not a stream sends nothing until it is complete
)

// A local server that shows that it works is waited for beyond these timeouts.
const (
	workInterval  = 15 * time.Second // between two looks at its work
	workTimeout   = 30 * time.Minute // how long it may be silent in sum
	spareTimeout  = 10 * time.Minute // the same before the first content if there is another target
	suspiciousFor = 30 * time.Second // of silence after the first content, until it may be stuck
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
	ending       bool          // the answer is complete
	strict       bool          // contentDue does not depend on what the server shows
	quiet        time.Duration // the longest allowed time between two reads that have content
	total        time.Time     // when the attempt must be over; zero if there is no limit
	waitsSince   time.Time     // when the wait for the first content began
	contentDue   time.Time     // when the first content must have arrived
	suspiciousAt time.Time     // when half of that time has passed without content
	ifLate       error         // the reason to end the attempt at contentDue
	work         workSeen
}

// workSeen is what a watchdog knows about the work of a silent server.
type workSeen struct {
	asking  bool           // the server is being asked whether the attempt may continue
	noted   bool           // the server was asked once, for a comparison
	silence int64          // the silence that the rest is about: when the last content was read
	last    *upstream.Work // its latest answer; nil if it has none
	until   time.Time      // the attempt may continue until then, because the server has shown that it works
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
	if limit := timers.Attempt(a.rec.Stream); limit > 0 {
		w.total = a.started.Add(limit)
	}
	w.awaitContent(a.firstContentTimeout(), false)
}

// awaitContent sets how long the first content may take from now on. If it is strict, that is so whatever the server shows.
func (w *watchdog) awaitContent(limit time.Duration, strict bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waitsSince, w.suspiciousAt, w.strict, w.work = now, now.Add(limit/2), strict, workSeen{}
	w.setContentDue(now.Add(limit))
	w.setTimer(min(w.contentDue.Sub(now), limit/2, w.a.x.UntilPing(w.a.client, now)), now)
}

// setContentDue sets when the first content must have arrived. The caller must hold the lock.
func (w *watchdog) setContentDue(due time.Time) {
	w.contentDue, w.ifLate = due, errSilent
	if deadline := w.a.planned.Deadline; !deadline.IsZero() && deadline.Before(due) {
		w.contentDue, w.ifLate = deadline, errDeadline
	}
}

// opened notes that the model has opened a part of its answer that has no content yet. Like after the first content, it may then be
// silent for as long as idle, because it is generating.
func (w *watchdog) opened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := time.Now().Add(w.idle)
	if latest := w.waitsSince.Add(workTimeout); due.After(latest) {
		due = latest
	}
	if w.phase == awaitingContent && due.After(w.contentDue) {
		w.setContentDue(due) // the timer fires earlier, and is set again
	}
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
		w.phase, w.strict = relaying, false
		w.setTimer(min(w.idle/2, exchange.PingEvery), time.Now())
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
	if do.ask {
		w.askForWork()
	}
}

// An action is what the watchdog does without its lock.
type action struct {
	end                error // the reason to end the attempt; nil to let it continue
	interrupt, suspect bool
	ask                bool // ask the server about its work
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

// checkContent checks an attempt that waits for its first content.
func (w *watchdog) checkContent(now time.Time) action {
	if !now.Before(w.contentDue) {
		return w.late(now, w.ifLate)
	}
	var do action
	next := w.contentDue
	if now.Before(w.suspiciousAt) {
		next = w.suspiciousAt
	} else {
		do.suspect, do.ask = true, w.noteWork()
	}
	w.setTimer(min(next.Sub(now), w.ping(now)), now)
	return do
}

// checkSilence checks an attempt whose answer has begun. Signs of life without content count for a limited time.
func (w *watchdog) checkSilence(now time.Time) action {
	lastRead, lastContent := w.a.started.Add(time.Duration(w.lastRead.Load())), w.lastContent.Load()
	quietSince := w.a.started.Add(time.Duration(lastContent))
	if w.work.silence != lastContent && !w.work.asking {
		w.work = workSeen{silence: lastContent}
	}
	due := earlier(lastRead.Add(w.idle), quietSince.Add(w.quiet))
	if w.work.until.After(due) {
		due = w.work.until
	}
	busy := w.a.client.Busy()
	blocked := busy && !now.Before(lastRead.Add(w.idle)) // a write that began after the last read has not ended since
	switch late := !now.Before(due); {
	case late && blocked:
		return action{end: errNotRead}
	case late && busy && w.ending: // the rest cannot be read before the client has read what it got
		w.setTimer(min(w.quiet, lastRead.Add(w.idle).Sub(now)), now)
		return action{}
	case late && w.ending:
		return action{end: errOver}
	case late:
		return w.late(now, errSilent)
	case w.ending: // neither the client nor the server needs attention
		w.setTimer(due.Sub(now), now)
		return action{}
	}
	var do action
	next := earlier(due, lastRead.Add(w.idle/2))
	if !now.Before(next) {
		next, do.ask = due, w.noteWork()
	}
	do.suspect = now.Sub(quietSince) >= suspiciousFor && !busy
	w.setTimer(min(next.Sub(now), w.ping(now)), now)
	return do
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ping pings the client if that is due, and returns how long to wait for the next time. Ping does not block, so that the lock can be
// held, and no ping starts after stop.
func (w *watchdog) ping(now time.Time) time.Duration {
	wait := w.a.x.UntilPing(w.a.client, now)
	if wait > 0 {
		return wait
	}
	w.a.client.Ping()
	return exchange.PingEvery
}

// late ends an attempt that is due, or has the server asked first whether it works.
func (w *watchdog) late(now time.Time, why error) action {
	if !errors.Is(why, errSilent) || w.strict || !w.a.u.ReportsWork() || !now.Before(w.latest()) {
		return action{end: why}
	}
	if w.work.asking { // the answer decides
		return action{}
	}
	w.work.asking = true
	return action{ask: true}
}

// latest returns until when a server that works is waited for.
func (w *watchdog) latest() time.Time {
	switch {
	case w.phase == relaying:
		return w.a.started.Add(time.Duration(w.lastContent.Load()) + workTimeout)
	case w.a.last:
		return w.waitsSince.Add(workTimeout)
	}
	return w.waitsSince.Add(spareTimeout)
}

// noteWork reports whether the server must be asked about its work, for a comparison later. It is asked once in a silence.
func (w *watchdog) noteWork() bool {
	if w.work.noted || w.strict || !w.a.u.ReportsWork() {
		return false
	}
	w.work.noted = true
	return true
}

// askForWork asks the server about its work. If the attempt is due, the answer decides whether it continues.
func (w *watchdog) askForWork() {
	seen, ok := w.a.u.Work(w.a.ctx, w.a.replica)
	if why := w.judge(seen, ok, time.Now()); why != nil {
		w.a.end(why)
	}
}

// judge returns the reason to end an attempt that is due, or nil.
func (w *watchdog) judge(seen upstream.Work, ok bool, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, asked := w.work.last, w.work.asking
	w.work.asking = false
	if ok {
		w.work.last = &seen
	}
	read := w.phase == relaying && w.work.silence != w.lastContent.Load()
	if !asked || w.phase > relaying {
		return nil
	}
	wait := workInterval
	switch {
	case read:
		wait = 0 // it is not silent any more
	case !ok:
		return errSilent
	case last == nil: // nothing to compare with
	case !seen.At.After(last.At): // the same reading
		wait = seen.At.Add(upstream.WorkInterval).Sub(now)
	case !seen.ShowsProgress(*last), seen.Queued > 0 && w.phase == awaitingContent && !w.a.last: // it works, but may not for this request
		return errSilent
	}
	until := earlier(now.Add(max(wait, 0)), w.latest())
	if w.phase == awaitingContent {
		w.setContentDue(until)
	} else {
		w.work.until = until
	}
	w.setTimer(min(until.Sub(now), w.ping(now)), now)
	return nil
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
		return cmp.Or(timers.Attempt(false), wholeAnswerTimeout)
	case a.last:
		return cmp.Or(timers.FirstToken, lastFirstTokenTimeout)
	default:
		return cmp.Or(timers.FirstToken, firstTokenTimeout+a.u.PrefillTime(a.model, a.promptTokens))
	}
}

// Streams implements replica.Attempt.
func (a *attempt) Streams() bool { return a.rec.Stream }

// Prefill implements replica.Attempt.
func (a *attempt) Prefill() time.Duration {
	if a.watchdog.isRelaying() {
		return 0
	}
	return a.u.PrefillTime(a.model, a.promptTokens)
}

// Abort implements replica.Attempt. An attempt that has nowhere else to go may continue.
func (a *attempt) Abort() {
	if a.watchdog.isRelaying() || !a.last {
		a.end(errStuck)
	}
}
