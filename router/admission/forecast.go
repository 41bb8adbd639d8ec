package admission

import (
	"math"
	"time"
)

// A Forecast is what is expected of a request at a replica.
type Forecast struct {
	// Position is how many requests are served before it, plus one. It is zero if a slot is free.
	Position int
	// Known reports whether the durations are known: enough answers of the model are, and recent ones.
	Known bool
	// Wait is the time until it gets a slot, and FirstToken the time until its first content.
	Wait, FirstToken time.Duration
}

// IsBetterThan reports whether a request should prefer f to another forecast.
func (f Forecast) IsBetterThan(other Forecast) bool {
	if f.Known != other.Known {
		return f.Known
	}
	if f.Known && f.FirstToken != other.FirstToken {
		return f.FirstToken < other.FirstToken
	}
	return f.Position < other.Position
}

// Forecast returns what is to be expected of a request at one of the places, the best one, if it came now.
func (slot *Slot) Forecast(places []Place) (best Forecast) {
	for i, at := range places {
		s := at.Queue
		s.mu.Lock()
		f := s.forecast(&slot.Request, s.limitOf(at.Rules), at.Model, nil)
		s.mu.Unlock()
		if i == 0 || f.IsBetterThan(best) {
			best = f
		}
	}
	return best
}

// Begun returns what is to be expected of a request that has just got its slot.
func (slot *Slot) Begun() Forecast {
	s := slot.queue
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.rates.of(slot.model)
	if !known.isReliable() {
		return Forecast{}
	}
	return Forecast{Known: true, FirstToken: seconds(known.prefill.at(known.uncached(&slot.Request)))}
}

// Forecast returns what is to be expected of a request that waits.
func (t *Ticket) Forecast() (best Forecast) {
	for i := range t.entries {
		e := &t.entries[i]
		s := e.queue
		s.mu.Lock()
		f := Forecast{}
		if e.queued {
			f = s.forecast(&t.slot.Request, s.limitOf(e.rules), e.model, e)
		}
		s.mu.Unlock()
		if f.Position > 0 && (best.Position == 0 || f.IsBetterThan(best)) {
			best = f
		}
	}
	return best
}

// forecast returns what is to be expected of a request that waits as e or, if e is nil, would come now. It ignores that requests age.
// Its cost grows with the slots and the callers, not with the requests. The caller holds the lock.
func (s *Queue) forecast(q *Request, limit int, model string, e *entry) Forecast {
	known := s.rates.of(model)
	x, ahead := known.expect(q), s.ahead(q, e)
	f := Forecast{Known: known.isReliable(), FirstToken: seconds(x.prefill)}
	room := s.hasRoom(limit, model, q)
	if e == nil && s.waiting.Load() == 0 && room {
		return f
	}
	if inUse := int(s.inFlight.Load()); !room && inUse > 0 { // its tokens have no space, although a slot may be free
		limit = lower(limit, inUse)
	}
	f.Position = ahead.requests + 1
	wait, ok := s.untilFree(limit, &ahead)
	f.Known = f.Known && ok
	if f.Known {
		f.Wait = seconds(wait)
		f.FirstToken += f.Wait
	} else {
		f.Wait, f.FirstToken = 0, 0
	}
	return f
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// ahead returns the work that is served before a request.
func (s *Queue) ahead(q *Request, e *entry) (sum work) {
	for class := High; class > q.Priority; class-- {
		c := &s.classes[class-Low]
		for _, f := range c.backlog {
			sum.requests += f.waiting
			sum.service += f.service
		}
		most, n := c.arrivals.most()
		for _, a := range most[:n] {
			sum.addLater(a, c.arrivals.time, math.Inf(1))
		}
	}
	c := &s.classes[q.Priority-Low]
	own, weight := c.flows[q.Caller], float64(max(q.Weight, 1))
	tag := c.now - c.credit/weight
	if own != nil {
		tag = max(own.tag, tag)
		for other := own.first; other != nil && other != e; other = other.after {
			tag += other.cost / own.weight
			sum.requests++
			sum.service += other.service
		}
	}
	for _, f := range c.backlog {
		if f == own || f.tag > tag || f.tag == tag && e != nil && own.first == e && f.first.arrived.After(e.arrived) {
			continue
		}
		n := f.waiting
		if f.cost > 0 {
			n = min(n, int((tag-f.tag)*f.weight/f.cost*float64(f.waiting))+1)
		}
		sum.requests += n
		sum.service += f.service * float64(n) / float64(f.waiting)
	}
	most, n := c.arrivals.most()
	for _, a := range most[:n] {
		if a.caller == q.Caller || a.cost <= 0 {
			continue
		}
		begins, weight := c.now-c.credit, 1.0 // of the caller's next request
		if f := c.flows[a.caller]; f != nil {
			weight = f.weight
			begins = max(f.tag+f.cost/weight, c.earliest(f))
		}
		sum.addLater(a, c.arrivals.time, (tag-begins)*weight/a.cost*a.requests)
	}
	return sum
}

// maxExamined bounds how many slots in use are examined for a forecast; they stand for the others.
const maxExamined = 64

// untilFree returns how many seconds pass until a slot is free for a request after some work. It reports false if that is unknown.
//
// How long an answer becomes is not known before its end, so that the slot which is expected to become free first is rarely the one
// that does: with eight slots, the first one becomes free much sooner than any single one is expected to. Therefore the chances of all
// slots are summed up: how many of them are expected to become free by when, and how much that varies.
func (s *Queue) untilFree(limit int, ahead *work) (float64, bool) {
	inUse := int(s.inFlight.Load())
	if limit == 0 || inUse < limit && ahead.requests == 0 {
		return 0, true
	}
	examined, step := make([]*Slot, 0, maxExamined), 1+inUse/maxExamined
	for n, used := 0, s.inUse; used != nil; n, used = n+1, used.next {
		if n%step == 0 {
			if !s.rates.of(used.model).isReliable() {
				return 0, false
			}
			examined = append(examined, used)
		}
	}
	mean := 0.0
	if ahead.requests > 0 {
		mean = ahead.service / float64(ahead.requests)
	} else {
		for _, used := range examined {
			mean += s.rates.of(used.model).expect(&used.Request).service() / float64(len(examined))
		}
	}
	if mean <= 0 {
		return 0, false
	}
	needed := float64(max(ahead.requests+1+inUse-limit, 1))
	wait, service := ahead.expectedWait(needed, mean, float64(inUse))
	e := ends{part: wait / partsOfExpected, service: service, slots: float64(inUse) / float64(len(examined))}
	for i := range e.none {
		e.none[i] = 1
	}
	e.addLater(ahead)
	var free [maxExamined]float64
	now := time.Now()
	for i, used := range examined {
		known := s.rates.of(used.model)
		lengths := known.answers.of(&used.Request)
		free[i] = e.addSlot(&lengths, known.prefill.at(known.uncached(&used.Request)), known.perToken(), now.Sub(used.taken).Seconds())
	}
	e.renew(free[:len(examined)])
	return e.until(needed), true
}
