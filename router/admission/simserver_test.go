package admission

import (
	"math"
	"slices"
	"time"
)

// The server of the simulation: a GPU with eight slots that reads prompts and writes answers at steady rates.
const (
	simSlots   = 8
	simPrefill = 4000.0 // tokens per second
	simDecode  = 40.0   // tokens per second and slot
	simStart   = 50 * time.Millisecond
)

// A simServer generates as vLLM does. If its KV cache is full, it interrupts the request that it took up last: that one waits until there
// is space again, and then all of its tokens are read anew.
type simServer struct {
	space       float64 // of its KV cache, in tokens; infinite if it does not matter
	running     []*simRequest
	waiting     []*simRequest
	now         time.Time
	preemptions int
	wasted      int // tokens that were read anew
}

// A simRun is what the server knows of a request.
type simRun struct {
	written float64   // tokens of the answer, when it was taken up
	reads   time.Time // until when its tokens are read
	stalled time.Time // when it was interrupted
	pause   time.Duration
}

// use returns how many tokens of the cache a request uses.
func (q *simRequest) use(now time.Time) float64 { return float64(q.prompt) + q.writtenAt(now) }

func (q *simRequest) writtenAt(now time.Time) float64 {
	return q.written + max(now.Sub(q.reads).Seconds(), 0)*q.rate
}

func (q *simRequest) ends() time.Time {
	return q.reads.Add(seconds((float64(q.output) - q.written) / q.rate))
}

func (s *simServer) used() (sum float64) {
	for _, q := range s.running {
		sum += q.use(s.now)
	}
	return sum
}

func (s *simServer) count() int { return len(s.running) + len(s.waiting) }

// start sends a request to the server.
func (s *simServer) start(q *simRequest, now time.Time) {
	s.now = now
	s.waiting = append(s.waiting, q)
	s.takeUp()
}

// takeUp takes up requests that wait inside of the server, as far as there is space.
func (s *simServer) takeUp() {
	for len(s.waiting) > 0 && (len(s.running) == 0 || s.used()+float64(s.waiting[0].prompt)+s.waiting[0].written <= s.space) {
		q := s.waiting[0]
		s.waiting = s.waiting[1:]
		q.reads = s.now.Add(readingTime(q.prompt + int(q.written)))
		if !q.stalled.IsZero() {
			q.pause = max(q.pause, q.reads.Sub(q.stalled))
		}
		if q.written == 0 {
			q.first = q.reads.Sub(q.arrived)
		}
		s.running = append(s.running, q)
	}
}

// next returns when something happens next; the zero time means never.
func (s *simServer) next() (at time.Time) {
	slope, left := 0.0, s.space-s.used()
	for _, q := range s.running {
		due := q.ends()
		if q.reads.After(s.now) {
			due = q.reads
		} else {
			slope += q.rate
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	if slope > 0 && !math.IsInf(left, 1) && len(s.running) > 1 {
		if full := s.now.Add(max(seconds(left/slope), time.Nanosecond)); full.Before(at) {
			at = full
		}
	}
	return at
}

// advance returns the requests that have ended by now, which is at most the time of what happens next.
func (s *simServer) advance(now time.Time) (ended []*simRequest) {
	s.now = now
	s.running = slices.DeleteFunc(s.running, func(q *simRequest) bool {
		ends := !q.ends().After(now)
		if ends {
			ended = append(ended, q)
		}
		return ends
	})
	for len(s.running) > 1 && s.used() >= s.space-0.5 {
		last := len(s.running) - 1
		q := s.running[last]
		s.running = s.running[:last]
		q.written, q.stalled = q.writtenAt(now), now
		s.waiting = slices.Insert(s.waiting, 0, q)
		s.preemptions++
		s.wasted += q.prompt + int(q.written)
	}
	if len(ended) > 0 {
		s.takeUp()
	}
	return ended
}
