package replica

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// An Attempt is a request in flight at a replica, as far as the detection of stuck servers needs to know it. Its methods are called
// while no lock of the replica is held.
type Attempt interface {
	// Streams reports whether its answer is a stream. The silence of any other answer proves little.
	Streams() bool
	// Prefill returns how long the upstream may still need to read its prompt in the worst case; zero once the answer has begun.
	Prefill() time.Duration
	// Contents returns the number of events with content that its stream has had so far.
	Contents() int64
	// Abort ends the attempt because the replica is stuck.
	Abort()
}

// silence records since when no attempt at a replica has made progress.
type silence struct {
	// progress reports whether an attempt has made progress since the last call of update. It is the only field that the reads of
	// a stream touch, and usually they only read it.
	progress atomic.Bool
	mu       sync.Mutex
	attempts map[Attempt]time.Time // when each began
	contents int64                 // of the attempts that have ended
	since    time.Time
	checking bool
}

// Begin counts an attempt among those in flight. Finish must follow.
func (r *Replica) Begin(a Attempt) {
	s, now := &r.silence, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempts == nil {
		s.attempts = map[Attempt]time.Time{}
	}
	if len(s.attempts) == 0 {
		s.since = now // an idle replica is not silent
	}
	s.update(now)
	s.attempts[a] = now
}

// Finish removes an attempt from those in flight. It may be called twice.
func (r *Replica) Finish(a Attempt) {
	r.silence.mu.Lock()
	defer r.silence.mu.Unlock()
	if _, inFlight := r.silence.attempts[a]; inFlight {
		r.silence.contents += a.Contents()
		delete(r.silence.attempts, a)
	}
}

// Contents returns the number of events with content that all streams of the replica have had so far: about one for each token.
func (r *Replica) Contents() int64 {
	r.silence.mu.Lock()
	defer r.silence.mu.Unlock()
	sum := r.silence.contents
	for a := range r.silence.attempts {
		sum += a.Contents()
	}
	return sum
}

// Progress records that an attempt made progress. Every read of a stream calls it, so it does not read the clock: the next update
// sets the time.
func (r *Replica) Progress() {
	if !r.silence.progress.Load() {
		r.silence.progress.Store(true)
	}
}

// update begins a new silence if there was progress since its last call.
func (s *silence) update(now time.Time) {
	if s.progress.Load() {
		s.progress.Store(false)
		s.since = now
	}
}

// StartStuckCheck claims the task of finding out whether the replica is stuck. It reports false if another goroutine has the task,
// if the replica is known to be stuck, or if no attempt is in flight. StopStuckCheck releases the task.
func (r *Replica) StartStuckCheck() bool {
	if r.Status().State == Stuck {
		return false
	}
	s := &r.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking || len(s.attempts) == 0 {
		return false
	}
	s.checking = true
	return true
}

// StopStuckCheck releases the task that StartStuckCheck claimed.
func (r *Replica) StopStuckCheck() {
	r.silence.mu.Lock()
	defer r.silence.mu.Unlock()
	r.silence.checking = false
}

// A Silence is a period in which a replica has sent nothing on any attempt.
type Silence struct {
	// Since is when it began: at the last progress, or a little later.
	Since time.Time
	// Attempts are the attempts in flight. Old are those of them that have at least the requested age.
	Attempts, Old []Attempt
}

// Silence returns the current silence at the replica. Age is from when on an attempt counts as old.
func (r *Replica) Silence(age time.Duration) Silence {
	s, now := &r.silence, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.update(now)
	found := Silence{Since: s.since}
	for a, began := range s.attempts {
		found.Attempts = append(found.Attempts, a)
		if now.Sub(began) >= age {
			found.Old = append(found.Old, a)
		}
	}
	return found
}

// Prefill returns how long the upstream may need to read the prompts of all attempts, one after the other.
func (s Silence) Prefill() (sum time.Duration) {
	for _, a := range s.Attempts {
		sum += a.Prefill()
	}
	return sum
}

// IsConclusive reports whether the silence alone proves that the replica is stuck: the number of old streams without progress is the
// number of failures in a row that trips the circuit breaker.
func (s Silence) IsConclusive() bool {
	streams := 0
	for _, a := range s.Old {
		if a.Streams() {
			streams++
		}
	}
	return streams >= maxInRow
}

// MarkStuck opens the circuit breaker of a replica that makes no progress although its probes succeed. Probes do not close it, only
// an answer to the one request that tries it after a while. It returns the change, or false if the replica was already stuck.
func (r *Replica) MarkStuck() (Change, bool) {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == Stuck {
		return Change{}, false
	}
	h.noteworthy.Store(true)
	return h.trip(Stuck, router.Timeout, time.Now())
}
