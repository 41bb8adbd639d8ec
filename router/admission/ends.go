package admission

import "math"

// The forecast of when a slot becomes free is a function of time, which is divided into parts of the time that would be expected if all
// answers were equally long and their ends were spread evenly.
const (
	partsOfExpected = 8
	parts           = 8 * partsOfExpected
)

// ends are how many requests are expected to end by when.
type ends struct {
	part     float64            // in seconds
	slots    float64            // for how many slots each one that is examined stands
	service  float64            // how long a request of the queue will hold its slot, in seconds
	times    moments            // of how long requests like those in progress hold their slots, in seconds
	vary     float64            // the variance of that, relative to the square of the mean
	ended    [parts + 1]float64 // of those in progress
	variance [parts + 1]float64
	none     [parts + 1]float64 // the chance that none of them has ended
	one      [parts + 1]float64 // the chances of one of them, as differences of the density from one part to the next
	renewed  [parts + 1]float64 // how many slots have been taken by requests of the queue, as differences from one part to the next
	later    [parts + 1]float64 // how many requests come per second that are served earlier, as differences from one part to the next
}

// addLater adds the requests that come later and are served earlier.
func (e *ends) addLater(ahead *work) {
	for _, a := range ahead.later[:ahead.senders] {
		e.later[0] += a.rate
		if last := a.most / a.rate / e.part; last < parts {
			e.later[int(last)+1] -= a.rate
		}
	}
}

// add adds the chance that a request ends, evenly between two times.
func (e *ends) add(from, to, chance float64) {
	first := int(from / e.part)
	if first >= parts {
		return
	}
	last := min(int(to/e.part), parts-1)
	each := chance / float64(int(to/e.part)-first+1)
	e.one[first] += each
	e.one[last+1] -= each
}

// addOne adds what has been added of one request.
func (e *ends) addOne() {
	density, sum := 0.0, 0.0
	for i := range parts {
		density += e.one[i]
		sum = min(sum+density, 0.999)
		e.ended[i] += e.slots * sum
		e.variance[i] += e.slots * sum * (1 - sum)
		if e.slots == 1 {
			e.none[i] *= 1 - sum
		} else {
			e.none[i] *= math.Pow(1-sum, e.slots)
		}
	}
	clear(e.one[:])
}

// renew adds that slots will be taken by requests of the queue, one after the other, each from a time on. If all requests take equally long,
// none of them ends before that; if they vary, some do.
func (e *ends) renew(from []float64) {
	e.vary = e.times.relativeVariance()
	for _, from := range from {
		begins := (from + e.service*max(1-e.vary, 0)/2) / e.part
		if begins >= parts {
			continue
		}
		i := int(begins)
		part := begins - float64(i)
		e.renewed[i] += e.slots * (1 - part)
		e.renewed[i+1] += e.slots * part
	}
}

// moments are sums of weighted numbers and of their squares.
type moments struct{ n, x, xx float64 }

func (m *moments) add(x, weight float64) {
	m.n += weight
	m.x += weight * x
	m.xx += weight * x * x
}

// relativeVariance returns the variance of the numbers, relative to the square of their mean.
func (m *moments) relativeVariance() float64 {
	if m.x == 0 {
		return 0
	}
	return max(m.xx*m.n/(m.x*m.x)-1, 0)
}

// until returns when so many requests have ended, as a median.
func (e *ends) until(needed float64) float64 {
	before, rate, renewed, laterRate, came, left := 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
	for i := range parts {
		rate += e.renewed[i]
		renewed += rate * e.part / e.service
		laterRate += e.later[i]
		came += laterRate * e.part
		left = needed + came - e.ended[i] - renewed
		waits := e.waits(i, needed, left, renewed, came)
		if waits <= 0.5 {
			return e.part * (float64(i) + (before-0.5)/(before-waits))
		}
		before = waits
	}
	// Long after all that are in progress have ended.
	return e.part*parts + max(left, 0)/max(rate/e.service-laterRate, 0.1*rate/e.service)
}

// waits returns the chance that fewer requests have ended after a part of the time than are needed, if so many of these are expected to be left.
func (e *ends) waits(i int, needed, left, renewed, came float64) float64 {
	deviation := max(math.Sqrt(e.variance[i]+e.vary*renewed+came), 0.01)
	if needed > 1 {
		return below(left-0.5, deviation)
	}
	noneCame := math.Exp(-came)
	return noneCame*e.none[i] + (1-noneCame)*below(left+0.5, deviation)
}

// below returns the chance that a normally distributed number is less than so much above its mean.
func below(distance, deviation float64) float64 {
	return 0.5 * math.Erfc(-distance/deviation/math.Sqrt2)
}

// addSlot adds when a request will end that has held its slot for so many seconds, and returns when that is on average. Lengths are those of
// such answers, prefill is how long its prompt takes, and perToken how long a token of the answer does.
func (e *ends) addSlot(lengths *distribution, prefill, perToken, elapsed float64) float64 {
	begins := max(prefill-elapsed, 0) // of the answer
	written := max(elapsed-prefill, 0) / perToken
	current, total := bucketOf(int(written)), 0.0
	for i, n := range lengths.answers {
		if n == 0 {
			continue
		}
		e.times.add(prefill+lengths.lengths[i]*perToken, n/lengths.total)
		if i == current { // a part of these answers would have ended
			shortest, longest := lengths.bounds(i)
			lengths.answers[i] *= min(max((longest-written)/max(longest-shortest, 1), 0), 1)
		}
		if i >= current {
			total += lengths.answers[i]
		}
	}
	if total == 0 { // longer than any answer before
		decode := lengths.mean() * perToken
		e.add(begins, begins+2*decode, 1)
		e.addOne()
		return begins + decode
	}
	mean := 0.0
	for i := current; i < buckets; i++ {
		if lengths.answers[i] == 0 {
			continue
		}
		shortest, longest := lengths.bounds(i)
		from, to := begins+max(shortest-written, 0)*perToken, begins+max(longest-written, 0)*perToken
		chance := lengths.answers[i] / total
		mean += chance * (from + to) / 2
		e.add(from, to, chance)
	}
	e.addOne()
	return mean
}
