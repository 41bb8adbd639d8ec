package admission

import "container/heap"

// A flow is the waiting requests of one caller in one class, and what it has had. They are served in the order of their arrival.
type flow struct {
	caller      Caller
	weight      float64
	tag         float64 // the virtual time at which its next request starts
	first, last *entry
	waiting     int
	held        int     // positions of the queue that its requests hold
	cost        float64 // of its waiting requests
	service     float64 // seconds that its waiting requests are expected to take, as far as that is known
	index       int     // in the backlog
}

// A class has the waiting requests of one priority. It shares the slots among callers by start-time fair queueing: each request has a
// start tag, which is when the caller's last request would have ended in virtual time, and the request with the lowest tag is served
// next. A caller that sends 500 requests therefore delays another one's by no more than one request. Virtual time is the tag of the
// request that was served last.
//
// A caller that has used less than its share has a credit: its tag may be behind the virtual time by as much as fills all slots once.
// Without it, a caller whose requests come in small bursts, but which asks for less than its share on average, would wait as if each
// burst was all it ever does.
type class struct {
	flows    map[Caller]*flow
	backlog  backlog // the flows with waiting requests
	now      float64 // virtual time
	mean     float64 // cost of a request; newer ones count more
	credit   float64 // see above, in tokens
	sweepAt  int     // the number of flows at which idle ones are forgotten
	arrivals arrivals
}

// A backlog is a heap of flows, by the tags of their next requests.
type backlog []*flow

// Len implements heap.Interface.
func (b backlog) Len() int { return len(b) }

// Less implements heap.Interface. Requests with the same tag are served in the order of their arrival.
func (b backlog) Less(i, j int) bool {
	if b[i].tag != b[j].tag {
		return b[i].tag < b[j].tag
	}
	return b[i].first.arrived.Before(b[j].first.arrived)
}

// Swap implements heap.Interface.
func (b backlog) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].index, b[j].index = i, j
}

// Push implements heap.Interface.
func (b *backlog) Push(f any) {
	f.(*flow).index = len(*b)
	*b = append(*b, f.(*flow))
}

// Pop implements heap.Interface.
func (b *backlog) Pop() any {
	last := len(*b) - 1
	f := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	return f
}

// minSweep is how many flows of a class are remembered at least. Others are forgotten once their tags make no difference any more.
const minSweep = 64

// maxFlows bounds the flows of a class that are remembered although none of their requests waits.
const maxFlows = 1024

// flowOf returns the flow of a request's caller. A new one has to pay for the requests that the caller already has in flight.
func (c *class) flowOf(s *Queue, slot *Slot) *flow {
	f := c.flows[slot.Caller]
	if f == nil {
		c.sweep()
		f = &flow{caller: slot.Caller}
		if c.flows == nil {
			c.flows = map[Caller]*flow{}
		}
		c.flows[slot.Caller] = f
		f.setWeight(slot.Weight)
		f.tag = c.earliest(f)
		for used := s.inUse; used != nil; used = used.next {
			if used.Caller == slot.Caller && used.Priority == slot.Priority {
				x := s.rates.of(used.model).expect(&used.Request)
				used.flow, used.cost, used.promptCost = f, x.cost, x.promptCost
				f.tag += used.cost / f.weight
			}
		}
	}
	f.setWeight(slot.Weight)
	return f
}

func (f *flow) setWeight(weight int) { f.weight = float64(max(weight, 1)) }

// sweep forgets flows that are idle and have no debt, when there are many.
func (c *class) sweep() {
	if len(c.flows) < max(c.sweepAt, minSweep) {
		return
	}
	for caller, f := range c.flows {
		if f.waiting == 0 && (f.tag <= c.earliest(f) || len(c.flows) > maxFlows) {
			delete(c.flows, caller)
		}
	}
	c.sweepAt = 2 * len(c.flows)
}

// earliest returns the earliest tag that a flow may have.
func (c *class) earliest(f *flow) float64 { return c.now - c.credit/f.weight }

// learnCost learns what a request costs and how many of them fill all slots.
func (c *class) learnCost(cost float64, slots int) {
	if c.mean == 0 {
		c.mean = cost
	}
	c.mean = c.mean*memory + cost*(1-memory)
	c.credit = c.mean * float64(slots)
}

// push adds an entry to its flow.
func (c *class) push(e *entry) {
	f := e.flow
	e.queued, e.before, e.after = true, f.last, nil
	f.waiting++
	f.cost += e.cost
	f.service += e.service
	if f.last != nil {
		f.last.after, f.last = e, e
		return
	}
	f.first, f.last = e, e
	f.tag = max(f.tag, c.earliest(f))
	heap.Push(&c.backlog, f)
}

// served charges the flow of an entry that has got a slot. If others of the class were before it in order, virtual time stands still for
// them.
func (c *class) served(e *entry) {
	c.now = max(c.now, c.backlog[0].tag)
	c.charge(e.flow, e.cost)
}

// charge adds a cost to what a flow has had. It is negative if the flow has had less than was expected.
func (c *class) charge(f *flow, cost float64) {
	f.tag = max(f.tag+cost/f.weight, c.earliest(f))
	if f.first != nil {
		heap.Fix(&c.backlog, f.index)
	}
}

// remove removes an entry from its flow. When no request of the class waits any more, the class begins anew: who had how much of slots
// for which nobody waited does not matter.
func (c *class) remove(e *entry) {
	f := e.flow
	e.queued = false
	f.waiting--
	f.cost -= e.cost
	f.service -= e.service
	if e.before == nil {
		f.first = e.after
	} else {
		e.before.after = e.after
	}
	if e.after == nil {
		f.last = e.before
	} else {
		e.after.before = e.before
	}
	switch {
	case f.first == nil:
		heap.Remove(&c.backlog, f.index)
	case e.before == nil:
		heap.Fix(&c.backlog, f.index)
	}
	e.before, e.after = nil, nil
	if len(c.backlog) == 0 {
		clear(c.flows)
		c.now = 0
	}
}

// firstOf returns the request that is served next of those for models that may be served.
func (c *class) firstOf(may func(model string) bool) (first *entry) {
	for _, f := range c.backlog {
		if first != nil && f.tag >= first.flow.tag {
			continue
		}
		for e := f.first; e != nil; e = e.after {
			if may(e.model) {
				first = e
				break
			}
		}
	}
	return first
}
