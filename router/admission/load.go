package admission

import "time"

// limitOf returns how many requests may be in flight under some rules; zero means no limit. The caller holds the lock.
func (s *Queue) limitOf(rules *Rules) int { return s.capacity.slots(rules.Limit(), rules.Initial()) }

// hasRoom reports whether one more request may be in flight at once with the others: a slot is free, its model can be in memory, and there
// is space for its tokens. A request that is alone always has space. The caller holds the lock.
func (s *Queue) hasRoom(limit int, model string, q *Request) bool {
	inUse := int(s.inFlight.Load())
	return (limit == 0 || inUse < limit) && s.models.mayLoad(model, s.isBusy) && (s.capacity.tokens == 0 || inUse == 0 || s.tokens+s.tokensOf(model, q) <= s.capacity.tokenLimit())
}

// tokensOf returns how many tokens of the server's space a request is expected to need: its prompt and half of its answer, because the
// answers that are written at the same time are half finished on average. The caller holds the lock.
func (s *Queue) tokensOf(model string, q *Request) int {
	known := s.rates.of(model)
	return int(known.prompt(q) + known.answers.mean(q)/2)
}

// Observe learns from what the server says about its load, and gives slots that have become free to waiting requests.
//
// Own requests are counted here, not there: what the server has beyond them comes from other clients. If it has fewer requests than were
// sent to it, it has let go of some that were abandoned.
func (s *Queue) Observe(l Load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.Known && l.Asked.After(s.capacity.last.Asked) {
		s.releaseAbandoned(l)
		own := max(l.Own, int(s.inFlight.Load()))
		s.capacity.learn(l, own)
		s.setTokens(l.Tokens)
		s.publish()
	}
	s.admit()
}

// setTokens sets the server's space for tokens. The caller holds the lock.
func (s *Queue) setTokens(n int) {
	if s.capacity.tokens == 0 && n > 0 {
		s.capacity.share, s.tokens = 1, 0
		for used := s.inUse; used != nil; used = used.next {
			used.tokens = s.tokensOf(used.model, &used.Request)
			s.tokens += used.tokens
		}
	}
	s.capacity.tokens = max(n, 0)
}

// SetSlots sets for how many requests the server says that it generates at once.
func (s *Queue) SetSlots(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity.stated = max(n, 0)
	s.publish()
	s.admit()
}

// StatesSlots reports whether the server has said how many requests it generates at once.
func (s *Queue) StatesSlots() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capacity.stated > 0
}

// Overloaded learns that the server has refused a request because it has too many, while that request still holds its slot: the others are
// as many as it can do at once.
func (s *Queue) Overloaded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.capacity
	if others := int(s.inFlight.Load()) - 1 + s.capacity.foreignNow(); others > 0 {
		c.setLearned(lower(c.learned, others), time.Now())
		s.publish()
	}
}

// Forget forgets what the server has shown of its capacity, and the requests that were abandoned there, because it is not there any more.
func (s *Queue) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = capacity{stated: s.capacity.stated}
	s.models.forget()
	for used := s.inUse; used != nil; {
		next := used.next
		if used.abandoned {
			s.free(used)
		}
		used = next
	}
	s.publish()
	s.admit()
}

// publish sets what is read without the lock. The caller holds the lock.
func (s *Queue) publish() {
	s.foreign.Store(int32(s.capacity.foreign))
	s.bounded.Store(s.capacity.bounds())
}

// Foreign returns how many requests of other clients are at the server, as far as it has said so lately.
func (s *Queue) Foreign() int {
	if s.foreign.Load() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capacity.foreignNow()
}

// A Capacity is how much a replica may be sent at once.
type Capacity struct {
	// Slots is how many requests may be in flight; zero means no limit.
	Slots int
	// Foreign is how many requests of other clients are at the server.
	Foreign int
	// Tokens is how many tokens the requests in flight are expected to need, of MaxTokens. Both are zero if the server's space is unknown.
	Tokens, MaxTokens int
}

// Capacity returns how much may be sent at once under some rules.
func (s *Queue) Capacity(rules *Rules) Capacity {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Capacity{Slots: s.limitOf(rules), Foreign: s.capacity.foreignNow()}
	if s.capacity.tokens > 0 {
		c.Tokens, c.MaxTokens = s.tokens, s.capacity.tokenLimit()
	}
	return c
}

// NeedsRequest reports whether the decision about a free slot depends on what is known about the request.
func (s *Queue) NeedsRequest(rules *Rules) bool {
	return rules.Limit() > 0 || rules.Initial() > 0 || s.bounded.Load()
}

// arrival bounds how long a request needs from its slot to the server, so that the server counts it.
const arrival = 250 * time.Millisecond

// releaseAbandoned frees the slots of abandoned requests that the server has let go: as many as it has fewer requests than are certainly
// there. The caller holds the lock.
func (s *Queue) releaseAbandoned(l Load) {
	settled, there := l.Asked.Add(-arrival), l.Running+l.Waiting
	own := 0
	for used := s.inUse; used != nil; used = used.next {
		if used.taken.Before(settled) {
			own++
		}
	}
	for used := s.inUse; used != nil && own > there; {
		next := used.next
		if used.abandoned && used.taken.Before(settled) {
			s.free(used)
			own--
		}
		used = next
	}
}

// ObserveModels learns from what the server says of its models, and gives slots to requests for which that makes a difference.
func (s *Queue) ObserveModels(m Models) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := &s.models
	switch {
	case m.All:
		known.forget()
	case m.Asked.After(known.asked):
		known.learn(m, s.isBusy)
	}
	s.admit()
}

// Loaded learns how long the server has taken to load a model.
func (s *Queue) Loaded(model string, took time.Duration) {
	if took < shortestLoad {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models.learnLoad(model, took)
}

// KeepsOthers reports whether a model should not be loaded now, because the server would have to unload another one whose turn is not over.
// That matters for a model for which no request waits here, because others answer them meanwhile.
func (s *Queue) KeepsOthers(model string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.models.displacesEarly(model)
}

// Serves reports whether requests for a model hold slots.
func (s *Queue) Serves(model string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isBusy(model)
}

// isBusy reports whether requests for a model hold slots. The caller holds the lock.
func (s *Queue) isBusy(model string) bool {
	for used := s.inUse; used != nil; used = used.next {
		if used.model == model {
			return true
		}
	}
	return false
}
