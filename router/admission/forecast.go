package admission

import "time"

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
// Its cost grows with the slots and the callers that wait, not with the requests. The caller holds the lock.
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
	wait, ok := s.untilFree(limit, ahead)
	f.Known = f.Known && ok
	if f.Known {
		if e != nil && e.expected == 0 {
			e.expected = wait
		}
		f.Wait = seconds(wait * s.classes[q.Priority-Low].flows[q.Caller].correction())
		f.FirstToken += f.Wait
	} else {
		f.Wait, f.FirstToken = 0, 0
	}
	return f
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// work is a number of requests and for how many seconds they will need their slots together.
type work struct {
	requests int
	service  float64
}

// ahead returns the work of the queue that is served before a request.
func (s *Queue) ahead(q *Request, e *entry) (sum work) {
	for class := High; class > q.Priority; class-- {
		for _, f := range s.classes[class-Low].backlog {
			sum.requests += f.waiting
			sum.service += f.service
		}
	}
	c := &s.classes[q.Priority-Low]
	own := c.flows[q.Caller]
	tag := c.now - c.credit/float64(max(q.Weight, 1))
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
	return sum
}

// The forecast of when slots become free is a histogram over time: how many requests are expected to end in each of these parts of the
// mean time that a request holds its slot.
const (
	partsOfMean = 16
	parts       = 8 * partsOfMean
)

// maxExamined bounds how many slots in use are examined for a forecast; they stand for the others.
const maxExamined = 64

// medianRank is where the median of the next end of a request lies before its mean, which a few late ones shift. It is the less, the more
// ends are needed.
const medianRank = 0.3

// untilFree returns how many seconds pass until a slot is free for a request after so much work. It reports false if that is unknown.
//
// How long an answer becomes is not known before its end, so that the slot which is expected to become free first is rarely the one
// that does: with eight slots, the first one becomes free much sooner than any single one is expected to. Therefore the chances of all
// slots are summed up, until as many are expected to have become free as are needed.
func (s *Queue) untilFree(limit int, ahead work) (float64, bool) {
	inUse := int(s.inFlight.Load())
	if limit == 0 || inUse < limit && ahead.requests == 0 {
		return 0, true
	}
	step := 1 + inUse/maxExamined
	mean, examined, n := 0.0, make([]*Slot, 0, maxExamined), 0
	for used := s.inUse; used != nil; used = used.next {
		if n++; n%step != 0 && inUse > maxExamined {
			continue
		}
		known := s.rates.of(used.model)
		if !known.isReliable() {
			return 0, false
		}
		examined = append(examined, used)
		mean += known.expect(&used.Request).service() / float64(inUse) * float64(step)
	}
	if ahead.requests > 0 {
		if ahead.service == 0 {
			return 0, false
		}
		mean = ahead.service / float64(ahead.requests)
	}
	if mean <= 0 {
		return 0, false
	}
	var ends ends
	ends.part = mean / partsOfMean
	now := time.Now()
	for _, used := range examined {
		s.rates.of(used.model).addEnds(&ends, &used.Request, now.Sub(used.taken).Seconds(), float64(step))
	}
	needed := float64(ahead.requests+1+max(inUse-limit, 0)) - medianRank/float64(ahead.requests+1) - float64(max(limit-inUse, 0))
	return ends.until(needed), true
}

// ends has when requests are expected to end: the density in each part of the time, as differences from one part to the next, and after
// which time slots have been taken by requests of the queue, which end one after the other.
type ends struct {
	part    float64 // its length in seconds
	density [parts + 1]float64
	renewal [parts + 1]float64
}

// add adds the chance that a request ends, evenly between two times.
func (e *ends) add(from, to, chance float64) {
	first := int(from / e.part)
	if first >= parts {
		return
	}
	last := min(int(to/e.part), parts-1)
	each := chance / float64(int(to/e.part)-first+1)
	e.density[first] += each
	e.density[last+1] -= each
}

// until returns when so many requests are expected to have ended.
func (e *ends) until(needed float64) float64 {
	sum, density, renewal := 0.0, 0.0, 0.0
	for i := range parts {
		density += e.density[i]
		renewal += e.renewal[i]
		more := density + renewal/partsOfMean
		if sum+more >= needed && more > 0 {
			return e.part * (float64(i) + max(needed-sum, 0)/more)
		}
		sum += more
	}
	return e.part * (parts + (needed-sum)*partsOfMean/max(renewal, 1))
}

// addEnds adds when a request will end that has held its slot for so many seconds. Slots is how many slots it stands for.
func (r *rate) addEnds(e *ends, q *Request, elapsed, slots float64) {
	x := r.expect(q)
	perToken := r.perToken()
	begins := max(x.prefill-elapsed, 0) // of the answer
	written := max(elapsed-x.prefill, 0) / perToken
	total := 0.0
	for i := bucketOf(int(written)); i < buckets; i++ {
		total += r.outputs.answers[i]
	}
	if total == 0 { // longer than any answer before
		e.add(begins, begins+2*x.decode, slots)
		e.renewal[min(int((begins+x.decode)/e.part), parts)] += slots
		return
	}
	mean := 0.0
	for i := bucketOf(int(written)); i < buckets; i++ {
		if r.outputs.answers[i] == 0 {
			continue
		}
		shortest, longest := r.outputs.bounds(i)
		if limit := float64(q.MaxOutput); limit > 0 {
			shortest, longest = min(shortest, limit), min(longest, limit)
		}
		from, to := begins+max(shortest-written, 0)*perToken, begins+max(longest-written, 0)*perToken
		chance := r.outputs.answers[i] / total
		mean += chance * (from + to) / 2
		e.add(from, to, chance*slots)
	}
	e.renewal[min(int(mean/e.part), parts)] += slots
}
