package router

import (
	"sync"
	"sync/atomic"
	"time"
)

// An Occupant is an attempt that is under way at a replica, as far as the replica's silence is concerned. It is called without a
// lock of the replica's held.
type Occupant interface {
	// Mute tells that it gives no sign of life before it is complete, so that its silence says little.
	Mute() bool
	// Prefill is how long its prompt may still take to be read, at the slowest; zero once its answer has begun.
	Prefill() time.Duration
	// Stop ends it: the replica is wedged.
	Stop()
}

// silence knows since when no attempt at a replica has made progress.
type silence struct {
	// stirred tells that one has, since it was looked at last: the only word that a stream's reads touch, and as a rule they only
	// read it.
	stirred atomic.Bool
	mu      sync.Mutex
	present map[Occupant]time.Time // when it came
	since   time.Time
	watched bool
}

// Enter counts an attempt among those that are under way. Leave must follow.
func (r *Replica) Enter(o Occupant) {
	s, now := &r.silence, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.present == nil {
		s.present = map[Occupant]time.Time{}
	}
	if len(s.present) == 0 {
		s.since = now // to have nothing to say is no silence
	}
	s.listen(now)
	s.present[o] = now
}

// Leave takes it out again; it may be called twice.
func (r *Replica) Leave(o Occupant) {
	r.silence.mu.Lock()
	defer r.silence.mu.Unlock()
	delete(r.silence.present, o)
}

// Stir notes that an attempt made progress. It reads no clock: the silence is dated by who listens next.
func (r *Replica) Stir() {
	if !r.silence.stirred.Load() {
		r.silence.stirred.Store(true)
	}
}

// listen begins a new silence if there was progress since somebody listened last.
func (s *silence) listen(now time.Time) {
	if s.stirred.Load() {
		s.stirred.Store(false)
		s.since = now
	}
}

// Suspect claims the task of finding out whether the replica is wedged; false if somebody does so already, if that is known, or
// if no attempt is under way. Who got it must Acquit.
func (r *Replica) Suspect() bool {
	if r.Facts().State == Wedged {
		return false
	}
	s := &r.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watched || len(s.present) == 0 {
		return false
	}
	s.watched = true
	return true
}

// Acquit gives the task back.
func (r *Replica) Acquit() {
	r.silence.mu.Lock()
	defer r.silence.mu.Unlock()
	r.silence.watched = false
}

// A Silence is how long a replica has said nothing to anybody.
type Silence struct {
	// Since is when it began, or later; it is not before the last progress.
	Since time.Time
	// Present are the attempts under way, Old those of them that have lasted for so long as was asked.
	Present, Old []Occupant
}

// Listen gives the silence at the replica now, and which attempts are older than so long.
func (r *Replica) Listen(age time.Duration) Silence {
	s, now := &r.silence, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listen(now)
	found := Silence{Since: s.since}
	for o, came := range s.present {
		found.Present = append(found.Present, o)
		if now.Sub(came) >= age {
			found.Old = append(found.Old, o)
		}
	}
	return found
}

// Prefill is how long the prompts of all attempts may still take, one after the other.
func (s Silence) Prefill() (sum time.Duration) {
	for _, o := range s.Present {
		sum += o.Prefill()
	}
	return sum
}

// Damning tells whether the silence alone is enough of a proof: as many streams that wait in vain as it takes strikes in a row to
// open a circuit.
func (s Silence) Damning() bool {
	streams := 0
	for _, o := range s.Old {
		if !o.Mute() {
			streams++
		}
	}
	return streams >= strikesInRow
}

// Wedged shuts the replica out: it is there, but nothing moves. No probe ends that, but an answer of one request that tries it
// after a while. The change is false if it was known.
func (r *Replica) Wedged() (Change, bool) {
	h := &r.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == Wedged {
		return Change{}, false
	}
	h.wary.Store(true)
	return h.shut(Wedged, Timeout, time.Now())
}
