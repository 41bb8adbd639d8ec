package admission

import (
	"sync"
	"time"
)

// A Spill decides whether requests for one model are better sent on to its next pool, because they would wait here for too long. It
// needs two decisions in a row to begin with that for a caller, and to stop, so that one odd forecast changes nothing. It is safe for
// concurrent use.
type Spill struct {
	// After is how long the first token may take here.
	After time.Duration

	mu      sync.Mutex
	callers map[Caller]spillState
}

// A spillState is whether the requests of a caller are sent on, and how many decisions in a row were against that.
type spillState struct {
	spills  bool
	against uint8
}

const (
	// spillDecisions is how many decisions in a row change whether a caller's requests are sent on.
	spillDecisions = 2
	// maxSpillCallers bounds the callers whose decisions are remembered.
	maxSpillCallers = 1024
)

// stopAt is the forecast at which a request is no longer sent on.
func (s *Spill) stopAt() time.Duration { return s.After * 3 / 5 }

// Decide reports whether a request of a caller is better sent on. An unknown forecast changes nothing, and never sends a request on.
func (s *Spill) Decide(caller Caller, f Forecast) bool {
	if !f.Known {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.callers[caller]
	limit := s.After
	if state.spills {
		limit = s.stopAt()
	}
	long := f.FirstToken > limit
	if long == state.spills {
		state.against = 0
	} else if state.against++; state.against == spillDecisions {
		state = spillState{spills: long}
	}
	if s.callers == nil || len(s.callers) >= maxSpillCallers {
		s.callers = map[Caller]spillState{}
	}
	if state == (spillState{}) {
		delete(s.callers, caller)
	} else {
		s.callers[caller] = state
	}
	return state.spills && long
}
