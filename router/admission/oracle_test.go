package admission

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An oracle forecasts how long a request of the simulation waits by simulating what comes, many times, and knows more than any gateway can:
// always the speed of the server, how often each key sends requests and how answers are distributed; and if it is told, how long each answer
// becomes, or which requests will come. Of all times it returns the one that is within 30 % most often, as that is what forecasts are
// measured by here.
type oracle struct {
	name           string
	lengths, comes bool
	runs           int
	every          int // it is asked about each so many-th request
}

var oracles = []oracle{
	{"the best possible", false, false, 200, 4},
	{"knows all lengths", true, false, 200, 20},
	{"knows who comes", false, true, 200, 20},
	{"knows everything", true, true, 1, 4},
}

// An oracleSlot is a request at the server.
type oracleSlot struct {
	q                *simRequest
	flow             *oracleFlow
	ends             float64 // seconds from now
	cost, promptCost float64
}

// An oracleFlow is the waiting requests of a caller, as in flow.
type oracleFlow struct {
	caller string
	tag    float64
	queue  []*oracleEntry
}

type oracleEntry struct {
	q                *simRequest
	cost, promptCost float64
	at               float64
}

// forecast returns how long a request that has just joined the queue will wait, in seconds.
func (o oracle) forecast(s *simulation, q *simRequest, r *rand.Rand) float64 {
	waits := make([]float64, 0, o.runs)
	for range o.runs {
		if wait, served := o.simulate(s, q, r); served {
			waits = append(waits, wait)
		}
	}
	return mostlyWithin(waits, q.prefill().Seconds())
}

// mostlyWithin returns the wait for which most of the waits are within 30 %, together with a time that is known.
func mostlyWithin(waits []float64, known float64) float64 {
	slices.Sort(waits)
	best, most := 0.0, 0
	for i, low := range waits {
		shortest := low + known
		end, _ := slices.BinarySearch(waits, shortest/0.7*1.3-known)
		if end-i > most {
			most = end - i
			longest := waits[max(end-1, i)] + known
			best = (shortest/0.7+longest/1.3)/2 - known // in the middle of all that are right about as many
		}
	}
	return best
}

// simulate simulates the queue until a request gets its slot, once. It reports false if the request loses its position.
func (o oracle) simulate(s *simulation, q *simRequest, r *rand.Rand) (float64, bool) {
	queue := s.group.queue
	c := &queue.classes[Normal-Low]
	known := queue.rates.of("m")
	flows := map[string]*oracleFlow{}
	held := 0
	for caller, f := range c.flows {
		flow := &oracleFlow{caller: caller.Key, tag: f.tag}
		flows[caller.Key] = flow
		for e := f.first; e != nil; e = e.after {
			flow.queue = append(flow.queue, &oracleEntry{s.waiting[e.ticket.slot], e.cost, e.promptCost, e.arrived.Sub(s.clock).Seconds()})
			held++
		}
	}
	var slots []*oracleSlot
	for _, running := range s.server.running {
		x := running
		elapsed := s.clock.Sub(x.started)
		if !o.lengths {
			x = x.anotherAfter(r, elapsed)
		}
		slot := &oracleSlot{q: x, ends: (x.service() - elapsed).Seconds(), cost: running.slot.cost, promptCost: running.slot.promptCost}
		if running.slot.flow != nil {
			slot.flow = flows[running.slot.Caller.Key]
		}
		slots = append(slots, slot)
	}
	virtual := c.now
	charge := func(f *oracleFlow, cost float64) { f.tag = max(f.tag+cost, virtual-c.credit) }
	now, came, nextAt := 0.0, 0, 0.0
	var next *simRequest
	come := func() {
		if o.comes {
			next = s.comes(came)
			if !o.lengths {
				again := *next
				next = &again
				next.drawAnswer(r)
			}
			nextAt = next.arrived.Sub(s.clock).Seconds()
			came++
			return
		}
		var wait time.Duration
		wait, next = s.draw(r)
		nextAt += wait.Seconds()
	}
	if o.comes && len(s.events) > 0 { // the next one has been drawn already
		for _, e := range s.events {
			if e.what == simArrives {
				next, nextAt = e.q, e.at.Sub(s.clock).Seconds()
			}
		}
	}
	if next == nil {
		come()
	}
	for {
		first := slices.MinFunc(slots, func(a, b *oracleSlot) int { return cmp.Compare(a.ends, b.ends) })
		if nextAt < first.ends {
			now = nextAt
			x := known.expect(&Request{Prompt: next.estimated, MaxOutput: next.limit})
			f := flows[next.key]
			if f == nil {
				f = &oracleFlow{caller: next.key, tag: virtual - c.credit}
				flows[next.key] = f
				for _, slot := range slots {
					if slot.q.key == next.key {
						y := known.expect(&slot.q.slot.Request)
						slot.flow, slot.cost, slot.promptCost = f, y.cost, y.promptCost
						f.tag += y.cost
					}
				}
			}
			room := held < simQueue
			if !room {
				var greediest *oracleFlow
				for _, other := range flows {
					if greediest == nil || len(other.queue) > len(greediest.queue) {
						greediest = other
					}
				}
				if n := len(greediest.queue); n >= len(f.queue)+2 {
					if greediest.queue[n-1].q == q {
						return 0, false
					}
					greediest.queue = greediest.queue[:n-1]
					held--
					room = true
				}
			}
			if room {
				if len(f.queue) == 0 {
					f.tag = max(f.tag, virtual-c.credit)
				}
				f.queue = append(f.queue, &oracleEntry{next, x.cost, x.promptCost, now})
				held++
			}
			come()
			continue
		}
		now = first.ends
		if first.flow != nil {
			charge(first.flow, costOf(float64(first.q.prompt), float64(first.q.output), first.promptCost)-first.cost)
		}
		var f *oracleFlow
		for _, other := range flows {
			if len(other.queue) > 0 && (f == nil || other.tag < f.tag || other.tag == f.tag && other.queue[0].at < f.queue[0].at) {
				f = other
			}
		}
		e := f.queue[0]
		f.queue = f.queue[1:]
		held--
		if e.q == q {
			return now, true
		}
		virtual = max(virtual, f.tag)
		charge(f, e.cost)
		x := e.q
		if !o.lengths {
			x = x.anotherAfter(r, 0)
		}
		first.q, first.flow, first.ends, first.cost, first.promptCost = x, f, now+x.service().Seconds(), e.cost, e.promptCost
	}
}

// anotherAfter returns the request with an answer that was drawn anew, and takes longer than a time that has passed.
func (q *simRequest) anotherAfter(r *rand.Rand, elapsed time.Duration) *simRequest {
	again := *q
	for range 1000 {
		if again.drawAnswer(r); again.service() > elapsed {
			break
		}
		again = *q
	}
	return &again
}

// A simClass is requests of a simulation that have something in common, and how many of their forecasts were within 30 %.
type simClass struct {
	requests, close float64
	oracles         []simAnswers
}

// simAnswers are of how many requests an oracle was asked, how many of the queue's own forecasts of these were within 30 %, and how many of the
// oracle's.
type simAnswers struct{ asked, close, right float64 }

// classesOf returns the classes of a request: whose it was, how long it waited, and how long its prompt was.
func classesOf(q *simRequest) []string {
	who, wait, prompt := "polite", "no wait", "prompt up to 5000"
	if q.key == "greedy" {
		who = q.key
	}
	switch w := q.started.Sub(q.arrived); {
	case w > 10*time.Second:
		wait = "wait > 10 s"
	case w > 2*time.Second:
		wait = "wait 2 to 10 s"
	case w > 0:
		wait = "wait < 2 s"
	}
	if q.prompt > 5000 {
		prompt = "longer prompt"
	}
	return []string{"all", "all, " + wait, "all, " + prompt, who, who + ", " + wait}
}

// judge simulates a workload, asks the oracles about some of the requests that wait, and returns how good forecasts were, by class.
func judge(w simWorkload, load float64, oracles []oracle) map[string]*simClass {
	s := newSimulation(simSetup{policy: simFair, workload: w, load: load, requests: simRequests(), seed: 42})
	r := rand.New(rand.NewPCG(1, 1))
	forecasts, n := make([]map[*simRequest]time.Duration, len(oracles)), 0
	for i := range forecasts {
		forecasts[i] = map[*simRequest]time.Duration{}
	}
	s.arrived = func(q *simRequest) {
		n++
		for i, o := range oracles {
			if n%o.every == 0 && !s.warm.IsZero() {
				forecasts[i][q] = seconds(o.forecast(s, q, r)) + q.prefill()
			}
		}
	}
	s.run()
	classes := map[string]*simClass{}
	for _, q := range s.done {
		if q.first == 0 || !q.forecast.Known {
			continue
		}
		for _, name := range classesOf(q) {
			c := classes[name]
			if c == nil {
				c = &simClass{oracles: make([]simAnswers, len(oracles))}
				classes[name] = c
			}
			c.requests++
			ours := 0.0
			if q.isWithin(q.forecast.FirstToken) {
				ours = 1
			}
			c.close += ours
			for i := range oracles {
				f, asked := forecasts[i][q]
				if !asked {
					continue
				}
				o := &c.oracles[i]
				o.asked++
				o.close += ours
				if q.isWithin(f) {
					o.right++
				}
			}
		}
	}
	return classes
}

// Forecasts are about as good as they can be without knowing how long answers become and who comes next. The oracle that knows
// everything shows that the others simulate the real queue.
func TestSimulationOfForecasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		workloads, loads, ask := []simWorkload{simMixed}, []float64{1.5}, oracles[len(oracles)-1:]
		if *simulated > 0 {
			workloads, loads, ask = []simWorkload{simMixed, simAny, simAgents}, simLoads, oracles
		}
		for _, w := range workloads {
			for _, load := range loads {
				classes := judge(w, load, ask)
				var b strings.Builder
				fmt.Fprintf(&b, "%s at %.1f: forecasts within 30 %%; and of some that waited: how many there are, forecasts -> an oracle's\n%-32s %9s %9s", w.name, load, "", "share", "forecasts")
				for _, o := range ask {
					fmt.Fprintf(&b, " %26s", o.name)
				}
				for _, name := range slices.Sorted(maps.Keys(classes)) {
					c := classes[name]
					fmt.Fprintf(&b, "\n%-32s %7.0f %% %7.1f %%", name, 100*c.requests/classes["all"].requests, 100*c.close/c.requests)
					for _, o := range c.oracles {
						fmt.Fprintf(&b, "   %5.0f %5.1f %% -> %5.1f %%", o.asked, 100*o.close/max(o.asked, 1), 100*o.right/max(o.asked, 1))
					}
				}
				t.Log("\n" + b.String())
				all := classes["all"].oracles
				if o := all[len(ask)-1]; o.right < 0.97*o.asked {
					t.Errorf("who knows everything is right about %.0f %%", 100*o.right/o.asked)
				}
				if o := all[0]; len(ask) > 1 && o.close < o.right-0.07*o.asked {
					t.Errorf("forecasts: %.0f %%, but %.0f %% are possible", 100*o.close/o.asked, 100*o.right/o.asked)
				}
			}
		}
	})
}
