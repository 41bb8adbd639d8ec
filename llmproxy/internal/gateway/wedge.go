package gateway

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// How soon a silent replica is taken for a wedged one.
const (
	silenceLeast = 20 * time.Second // how long it must have said nothing to anybody
	looksApart   = 2 * time.Second  // how far the two looks at its counters are apart; llama.cpp must not be asked more often
)

// suspect begins to find out whether the replica is wedged, unless somebody does so already. Services are judged by their
// answers alone.
func (a *attempt) suspect() {
	g, u, r := a.c.g, a.u, a.candidate.Replica
	if g.closed.Err() != nil || !u.Probes() || !r.Suspect() {
		return
	}
	go func() {
		defer r.Acquit()
		s := suspicion{g: g, u: u, r: r}
		if s.confirmed() {
			s.convict()
		}
	}()
}

// A suspicion is the question whether a replica is wedged: healthy by its probes, without progress on any request.
type suspicion struct {
	g *Gateway
	u *upstream.Upstream
	r *router.Replica
}

// confirmed waits until the silence has lasted long enough, and tells whether nothing has moved meanwhile. Where no counters say
// so, several silent streams must.
func (s *suspicion) confirmed() bool {
	before, counted := s.u.Work(s.g.closed, s.r)
	since := s.r.Listen(0).Since
	if !s.lasts(since, time.Now().Add(looksApart)) {
		return false
	}
	after, again := s.u.Work(s.g.closed, s.r)
	healthy := s.u.Probe(s.g.closed, s.r) == router.Up // else it is loading, or down, and no riddle
	heard := s.r.Listen(silenceLeast)
	if !healthy || !heard.Since.Equal(since) || len(heard.Present) == 0 {
		return false
	}
	if counted && again {
		return before == after
	}
	return heard.Damning()
}

// lasts waits until the silence has lasted for as long as is suspicious, the time for reading the prompts included, and at least
// until earliest; false as soon as it is over.
func (s *suspicion) lasts(since, earliest time.Time) bool {
	for {
		heard := s.r.Listen(0)
		if !heard.Since.Equal(since) || len(heard.Present) == 0 {
			return false
		}
		due := since.Add(silenceLeast + heard.Prefill())
		if due.Before(earliest) {
			due = earliest
		}
		left := time.Until(due)
		if left <= 0 {
			return true
		}
		if !s.pause(min(left, silenceLeast/4)) {
			return false
		}
	}
}

func (s *suspicion) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.g.closed.Done():
		return false
	}
}

// convict shuts the replica out and ends what is under way there.
func (s *suspicion) convict() {
	change, told := s.r.Wedged()
	if told {
		s.g.tell(s.u, Change{Change: change, Address: s.r.Address})
	}
	for _, o := range s.r.Listen(0).Present {
		o.Stop()
	}
}

// Mute implements router.Occupant.
func (a *attempt) Mute() bool { return !a.c.rec.Stream }

// Prefill implements router.Occupant.
func (a *attempt) Prefill() time.Duration {
	if a.begun() {
		return 0
	}
	return a.u.Prefill(a.size)
}

// Stop implements router.Occupant. Who has nobody else to turn to may go on hoping.
func (a *attempt) Stop() {
	if a.begun() || !a.last {
		a.life.end(errWedged)
	}
}

func (a *attempt) begun() bool {
	p := &a.patience
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.begun.IsZero()
}
