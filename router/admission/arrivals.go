package admission

import (
	"slices"
	"time"
)

// arrivals are how often the callers of a class send requests while others wait: some of those that come later are served earlier. The
// queue's lock guards it.
type arrivals struct {
	callers map[Caller]*arrived
	list    []*arrived // the same, without an order
	time    float64    // in seconds, for which requests waited
	since   time.Time  // until when that has been summed up
}

// arrived is what one caller has sent in that time, in sums over its requests.
type arrived struct {
	caller                  Caller
	requests, service, cost float64
}

const (
	// maxArrived bounds the callers whose requests are counted.
	maxArrived = 1024
	// arrivalsAge is the time after which what has been counted no longer counts in full.
	arrivalsAge = 10 * time.Minute
)

// resume begins to measure the time again: a request begins to wait.
func (a *arrivals) resume(now time.Time) {
	if now.Sub(a.since) > arrivalsAge {
		*a = arrivals{}
	}
	a.since = now
}

// pass adds the time until now. After a while, all that has been counted counts half.
func (a *arrivals) pass(now time.Time) {
	a.time += max(now.Sub(a.since).Seconds(), 0)
	a.since = now
	for a.time > arrivalsAge.Seconds() {
		a.time /= 2
		a.list = slices.DeleteFunc(a.list, func(c *arrived) bool {
			if c.requests < 1 {
				delete(a.callers, c.caller)
			}
			c.requests /= 2
			c.service /= 2
			c.cost /= 2
			return c.requests < 0.5
		})
	}
}

// count counts a request that has come while others waited.
func (a *arrivals) count(caller Caller, service, cost float64) {
	c := a.callers[caller]
	if c == nil {
		if len(a.callers) >= maxArrived {
			return
		}
		if a.callers == nil {
			a.callers = map[Caller]*arrived{}
		}
		c = &arrived{caller: caller}
		a.callers[caller] = c
		a.list = append(a.list, c)
	}
	c.requests++
	c.service += service
	c.cost += cost
}

// most returns the callers that send most requests.
func (a *arrivals) most() (list [maxLater]*arrived, n int) {
	for _, c := range a.list {
		n = min(n+1, maxLater)
		for i := range list[:n] {
			if list[i] == nil || c.requests > list[i].requests {
				c, list[i] = list[i], c
			}
			if c == nil {
				break
			}
		}
	}
	return list, n
}

// work is the requests that are served before another one.
type work struct {
	requests int
	service  float64          // for how many seconds they will need their slots together
	later    [maxLater]sender // of requests that come later and are served earlier; those who send most, first
	senders  int
}

// A sender is a caller whose requests keep coming.
type sender struct {
	rate    float64 // per second
	service float64 // of one, in seconds
	most    float64 // how many of them are served earlier at most
}

// maxLater bounds the callers whose later requests count in a forecast.
const maxLater = 8

// addLater adds the requests that a caller will send. At most so many of them are served earlier.
func (w *work) addLater(a *arrived, time, most float64) {
	if most <= 0 || time <= 0 {
		return
	}
	x := sender{a.requests / time, a.service / a.requests, most}
	w.senders = min(w.senders+1, maxLater)
	for i := range w.later[:w.senders] {
		if x.rate > w.later[i].rate {
			x, w.later[i] = w.later[i], x
		}
	}
}

// expectedWait returns how many seconds pass until so many requests have ended, if their ends are spread evenly over slots, each of which a
// request of the queue holds for a mean time; and that time, once those that come later and are served earlier are counted.
func (w *work) expectedWait(needed, mean, slots float64) (wait, service float64) {
	own, later, laterService := needed*mean, 0.0, 0.0
	for range 8 { // in a longer time, more requests come
		wait = (own + laterService) / slots
		later, laterService = 0, 0
		for _, a := range w.later[:w.senders] {
			n := min(a.rate*wait, a.most)
			later += n
			laterService += n * a.service
		}
	}
	return wait, (own + laterService) / (needed + later)
}
