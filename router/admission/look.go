package admission

import (
	"slices"
	"time"
)

// A Waiting is a request that waits.
type Waiting struct {
	Request
	Since time.Time
	Forecast
}

// maxShown bounds how many requests are shown at once.
const maxShown = 256

// WaitingFor returns the requests that hold a position in this queue and for which of returns true, in the order of their arrival.
// Each request that waits is in one queue only.
func (s *Queue) WaitingFor(of func(*Request) bool) (list []Waiting) {
	for _, t := range s.tickets(of) {
		if f := t.Forecast(); f.Position > 0 { // otherwise it has got a slot meanwhile
			list = append(list, Waiting{t.slot.Request, t.entries[0].arrived, f})
		}
	}
	slices.SortFunc(list, func(a, b Waiting) int { return a.Since.Compare(b.Since) })
	return list
}

func (s *Queue) tickets(of func(*Request) bool) (list []*Ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.classes {
		for _, f := range s.classes[i].backlog {
			for e := f.first; e != nil && len(list) < maxShown; e = e.after {
				if e.holds && of(&e.ticket.slot.Request) {
					list = append(list, e.ticket)
				}
			}
		}
	}
	return list
}

// An Active is a request that holds a slot.
type Active struct {
	Request
	Since time.Time
	// Abandoned means that it has been given up while the server may still be at work on it.
	Abandoned bool
}

// Active returns the requests that hold a slot and for which of returns true, in the order in which they got it. Requests that did not
// need to be described, because the slots have no limit, have no ID and are left out.
func (s *Queue) Active(of func(*Request) bool) (list []Active) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for slot := s.inUse; slot != nil && len(list) < maxShown; slot = slot.next {
		if slot.ID != "" && of(&slot.Request) {
			list = append(list, Active{slot.Request, slot.taken, slot.abandoned})
		}
	}
	slices.SortFunc(list, func(a, b Active) int { return a.Since.Compare(b.Since) })
	return list
}

// A Speed is how fast a model answers at a replica.
type Speed struct {
	Model string
	// Answers is how many answers it was learned from, and Recent whether it counts in forecasts.
	Answers int
	Recent  bool
	// PromptRate and OutputRate are tokens per second of one request: of a long prompt, as far as it is not in the cache, and of the answer.
	PromptRate, OutputRate float64
	// Output is the mean length of an answer in tokens.
	Output float64
}

// Speeds returns what has been learned of the models at the replica.
func (s *Queue) Speeds() (list []Speed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for model, r := range s.rates.models {
		speed := Speed{Model: model, Answers: r.samples, Recent: r.isReliable(), Output: r.answers.mean(&Request{})}
		if slope := r.prefill.slope(); slope > 0 {
			speed.PromptRate = 1 / slope
		}
		if perToken := r.perToken(); perToken > 0 {
			speed.OutputRate = 1 / perToken
		}
		list = append(list, speed)
	}
	slices.SortFunc(list, func(a, b Speed) int {
		if a.Model < b.Model {
			return -1
		}
		return 1
	})
	return list
}
