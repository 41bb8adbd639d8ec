package admission

import (
	"container/heap"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simulated = flag.Int("simulate", 0, "simulate so many requests for each row of the table, and a million for the check of the slots")
	picture   = flag.String("picture", "", "the file for a picture of the simulation")
)

// simQueue is how many requests may wait.
const simQueue = 64

// simSpace is the size of a small KV cache, in tokens: what is left of 24 GB of memory beside a quantized model with 32 billion parameters.
const simSpace = 16_384

// The service to which requests go on: how soon it answers, and US dollars per million tokens.
const (
	simElsewhere = 700 * time.Millisecond
	simInput     = 0.15
	simOutput    = 0.60
)

// A simPolicy is how requests are admitted. All of them run the same admission queue, as it is used by requests.
type simPolicy struct {
	name      string
	unbounded bool                    // as the servers' own queues are
	caller    func(key string) string // whose turn a request takes
	blind     bool                    // every request costs the same
	tokens    bool                    // the server says how large its KV cache is
	spill     time.Duration           // requests go on to another service when they take longer
}

func ownTurn(key string) string { return key }
func sameTurn(string) string    { return "" }

var (
	simUnbounded  = simPolicy{name: "the server's own queue", unbounded: true, caller: sameTurn, blind: true}
	simFIFO       = simPolicy{name: "first come, first served", caller: sameTurn, blind: true}
	simRoundRobin = simPolicy{name: "the keys in turn", caller: ownTurn, blind: true}
	simFair       = simPolicy{name: "this gateway", caller: ownTurn}
	simByTokens   = simPolicy{name: "this gateway, by tokens", caller: ownTurn, tokens: true}
	simSpilling   = simPolicy{name: "with spill 5s", caller: ownTurn, spill: 5 * time.Second}
)

// A simEvent is an arrival, the end of a wait, or that the gateway asks the server for its load.
type simEvent struct {
	at   time.Time
	what int
	q    *simRequest
}

const (
	simArrives = iota
	simGivesUp
	simAsks
)

type simEvents []simEvent

func (h simEvents) Len() int           { return len(h) }
func (h simEvents) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h simEvents) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *simEvents) Push(e any)        { *h = append(*h, e.(simEvent)) }
func (h *simEvents) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// A simSetup is what is simulated.
type simSetup struct {
	policy   simPolicy
	workload simWorkload
	load     float64
	space    float64 // of the server's KV cache, in tokens; zero if it does not matter
	requests int
	seed     uint64
}

// A simulation is one run.
type simulation struct {
	simSetup
	spill    *Spill
	random   *rand.Rand
	rates    []float64
	coming   []*simRequest // that have been drawn before they come
	lastDraw time.Time
	group    *group
	server   simServer
	events   simEvents
	waiting  map[*Slot]*simRequest
	done     []*simRequest
	service  map[string]float64 // seconds of slots that each key got
	offered  map[string]float64 // and asked for
	exceeded int
	idle     float64 // seconds of free slots while a request waited
	clock    time.Time
	elapsed  float64
	warm     time.Time
	arrived  func(*simRequest) // called after a request that waits has joined the queue
}

func newSimulation(setup simSetup) *simulation {
	s := &simulation{
		simSetup: setup, random: rand.New(rand.NewPCG(setup.seed, 7)), rates: setup.workload.rates(setup.load), group: groupsOf(1, simSlots, simQueue)[0],
		waiting: map[*Slot]*simRequest{}, service: map[string]float64{}, offered: map[string]float64{}, clock: time.Now(), lastDraw: time.Now(),
		server: simServer{space: setup.space}, arrived: func(*simRequest) {},
	}
	if setup.space == 0 {
		s.server.space = math.Inf(1)
	}
	p := setup.policy
	if p.spill > 0 {
		s.spill = &Spill{After: p.spill}
	}
	s.group.Queue = Config{Size: simQueue}
	if p.unbounded {
		s.group.Queue = Config{Size: math.MaxInt32, PerCaller: math.MaxInt32, MaxWait: 1000 * time.Hour}
	} else if p.caller("a") == p.caller("b") {
		s.group.Queue.PerCaller = simQueue
	}
	return s
}

// comes returns the request that comes after so many others.
func (s *simulation) comes(after int) *simRequest {
	for after >= len(s.coming) {
		wait, q := s.draw(s.random)
		s.lastDraw = s.lastDraw.Add(wait)
		q.arrived = s.lastDraw
		s.coming = append(s.coming, q)
	}
	return s.coming[after]
}

// draw returns a request, and how long after the one before it comes.
func (s *simulation) draw(r *rand.Rand) (time.Duration, *simRequest) {
	total := 0.0
	for _, rate := range s.rates {
		total += rate
	}
	pick, i := r.Float64()*total, 0
	for ; i < len(s.rates)-1 && pick >= s.rates[i]; i++ {
		pick -= s.rates[i]
	}
	return seconds(r.ExpFloat64() / total), s.workload.keys[i].draw(r)
}

// run simulates all requests.
func (s *simulation) run() *simulation {
	next := func() {
		q := s.comes(0)
		s.coming = s.coming[1:]
		heap.Push(&s.events, simEvent{q.arrived, simArrives, q})
	}
	next()
	if s.policy.tokens {
		heap.Push(&s.events, simEvent{s.clock, simAsks, nil})
	}
	for arrived := 0; len(s.events) > 0 || s.server.count() > 0; {
		if at := s.server.next(); !at.IsZero() && (len(s.events) == 0 || !s.events[0].at.Before(at)) {
			s.advance(at)
			for _, q := range s.server.advance(at) {
				s.finish(q)
			}
			continue
		}
		e := heap.Pop(&s.events).(simEvent)
		if e.what == simGivesUp && s.waiting[&e.q.slot] != e.q {
			continue
		}
		s.advance(e.at)
		switch e.what {
		case simArrives:
			if arrived++; arrived < s.requests {
				next()
			}
			if arrived == s.requests/10 {
				s.warm, s.elapsed, s.idle = s.clock, 0, 0
				s.server.preemptions, s.server.wasted = 0, 0
				clear(s.service)
				clear(s.offered)
			}
			s.arrive(e.q)
		case simGivesUp:
			delete(s.waiting, &e.q.slot)
			e.q.ticket.Leave()
			s.refuse(e.q)
		case simAsks:
			if arrived < s.requests {
				heap.Push(&s.events, simEvent{s.clock.Add(2 * time.Second), simAsks, nil})
			}
			s.group.tell(Load{Own: s.server.count(), Running: len(s.server.running), Waiting: len(s.server.waiting), Tokens: int(s.space), Preemptions: float64(s.server.preemptions)})
			s.startGranted()
		}
	}
	return s
}

// advance moves the clock, and takes account of slots that were idle meanwhile.
func (s *simulation) advance(to time.Time) {
	d := to.Sub(s.clock)
	if d > 0 {
		time.Sleep(d)
	}
	s.clock = to
	s.elapsed += d.Seconds()
	if free := simSlots - s.server.count(); len(s.waiting) > 0 && free > 0 {
		s.idle += float64(free) * d.Seconds()
	}
}

func (s *simulation) arrive(q *simRequest) {
	s.offered[q.key] += q.service().Seconds()
	q.slot.Request = Request{Caller: Caller{Key: s.policy.caller(q.key)}}
	if !s.policy.blind {
		q.slot.Prompt, q.slot.MaxOutput = q.estimated, q.limit
	}
	place := []Place{s.group.place()}
	if s.spill != nil && s.spill.Decide(q.slot.Caller, q.slot.Forecast(place)) {
		s.refuse(q)
		return
	}
	if s.group.take(&q.slot) {
		q.forecast = q.slot.Begun()
		s.start(q)
		return
	}
	full := len(s.waiting) >= s.group.Queue.Size
	ticket, ok := Enqueue(&q.slot, true, place)
	if !ok {
		s.refuse(q)
		return
	}
	q.ticket, q.forecast = ticket, ticket.First
	s.waiting[&q.slot] = q
	longest := ticket.MaxWait
	if s.spill != nil {
		longest = s.spill.After
	}
	heap.Push(&s.events, simEvent{s.clock.Add(longest), simGivesUp, q})
	s.startGranted() // there may be space for its tokens, though not for those of the request before it
	if full {
		s.dropDisplaced()
	}
	if s.waiting[&q.slot] == q {
		s.arrived(q)
	}
}

// dropDisplaced ends the requests that lost their positions.
func (s *simulation) dropDisplaced() {
	for slot, q := range s.waiting {
		select {
		case <-q.ticket.Granted(): // all that have got a slot have been started
			delete(s.waiting, slot)
			q.ticket.Leave()
			s.refuse(q)
		default:
		}
	}
}

// start starts a request at the server.
func (s *simulation) start(q *simRequest) {
	q.started = s.clock
	s.server.start(q, s.clock)
	if s.server.count() > simSlots {
		s.exceeded++
	}
}

func (s *simulation) finish(q *simRequest) {
	q.ended = s.clock
	s.service[q.key] += s.clock.Sub(q.started).Seconds()
	s.end(q)
	used := Usage{}
	if !s.policy.blind {
		first := q.arrived.Add(q.first)
		used = Usage{Known: true, Complete: true, Prompt: q.prompt, Output: q.output, Prefill: first.Sub(q.started), Decode: s.clock.Sub(first)}
	}
	q.slot.Release(used)
	s.startGranted()
}

// startGranted starts the requests that have got a slot.
func (s *simulation) startGranted() {
	for next := s.group.queue.inUse; next != nil; next = next.next {
		if waits := s.waiting[next]; waits != nil {
			<-waits.ticket.Granted()
			waits.ticket.Leave()
			delete(s.waiting, next)
			s.start(waits)
		}
	}
}

// refuse ends a request that gets no slot, here.
func (s *simulation) refuse(q *simRequest) {
	if s.spill != nil {
		q.spilled = true
		q.first = s.clock.Sub(q.arrived) + simElsewhere
	}
	s.end(q)
}

// end keeps what became of a request.
func (s *simulation) end(q *simRequest) {
	if !s.warm.IsZero() && q.arrived.After(s.warm) {
		s.done = append(s.done, q)
	}
}

// A simResult is a row of the table.
type simResult struct {
	politeP50, politeP95, greedyP95 time.Duration
	politeGood, good                float64 // the share of requests whose first token came within 5 s
	refused                         float64 // the share of the polite keys' requests
	jain, idle                      float64
	// The share of the answered requests whose first token was predicted within 30 %, and within 30 % or one second.
	close, closeOrSoon float64
	spilled, cost      float64 // the share of the requests that went on, and dollars per thousand requests
	// interrupted is how many requests of a thousand the server interrupted, pause the longest one of 99 % of the answers, and perMinute how
	// many answers came to their end.
	interrupted float64
	pause       time.Duration
	politeEnd   time.Duration
	perMinute   float64
}

func (s *simulation) result() (r simResult) {
	var polite, greedy, pauses, ends []time.Duration
	var politeN, predicted float64
	for _, q := range s.done {
		isPolite, inTime := q.key != "greedy", q.first > 0 && q.first <= 5*time.Second
		if inTime {
			r.good++
		}
		if q.spilled {
			r.spilled++
			r.cost += (float64(q.prompt)*simInput + float64(q.output)*simOutput) / 1e6 * 1000
		}
		if isPolite {
			politeN++
			if inTime {
				r.politeGood++
			}
			if q.first == 0 {
				r.refused++
			}
		}
		switch {
		case q.first == 0:
			continue
		case isPolite:
			polite = append(polite, q.first)
		default:
			greedy = append(greedy, q.first)
		}
		if q.spilled {
			continue
		}
		r.perMinute++
		pauses = append(pauses, q.pause)
		if isPolite {
			ends = append(ends, q.ended.Sub(q.arrived))
		}
		if q.forecast.Known {
			predicted++
			if q.isWithin(q.forecast.FirstToken) {
				r.close++
				r.closeOrSoon++
			} else if (q.first - q.forecast.FirstToken).Abs() <= time.Second {
				r.closeOrSoon++
			}
		}
	}
	all := float64(len(s.done))
	r.politeP50, r.politeP95, r.greedyP95 = percentile(polite, 50), percentile(polite, 95), percentile(greedy, 95)
	r.good, r.politeGood, r.refused = r.good/all, r.politeGood/politeN, r.refused/politeN
	r.close, r.closeOrSoon = r.close/max(predicted, 1), r.closeOrSoon/max(predicted, 1)
	r.spilled, r.cost = r.spilled/all, r.cost/all
	r.jain, r.idle = s.jain(), s.idle/(simSlots*s.elapsed)
	r.interrupted, r.pause, r.perMinute = 1000*float64(s.server.preemptions)/all, percentile(pauses, 99), r.perMinute/(s.elapsed/60)
	r.politeEnd = percentile(ends, 95)
	return r
}

// isWithin reports whether a forecast of the first token was within 30 %.
func (q *simRequest) isWithin(forecast time.Duration) bool {
	return (q.first - forecast).Abs().Seconds() <= 0.3*forecast.Seconds()
}

func percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)*p/100, len(list)-1)]
}

// jain returns Jain's index of what each key got, relative to its max-min fair share of what all got together.
func (s *simulation) jain() float64 {
	left := 0.0
	for _, got := range s.service {
		left += got
	}
	keys := []string{}
	for _, k := range s.workload.keys {
		keys = append(keys, k.name)
	}
	slices.SortFunc(keys, func(a, b string) int { return int(math.Copysign(1, s.offered[a]-s.offered[b])) })
	sum, squares := 0.0, 0.0
	for i, key := range keys {
		share := min(s.offered[key], left/float64(len(keys)-i))
		left -= share
		x := s.service[key] / share
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(keys)) * squares)
}

// simResults are results by the name of the policy and the load.
type simResults map[string]map[float64]simResult

// simLoads are relative to the capacity of the server.
var simLoads = []float64{0.7, 1.0, 1.5}

// simRequests returns how many requests are simulated for each row.
func simRequests() int {
	if *simulated > 0 {
		return *simulated
	}
	return 6000
}

// simulateAll simulates a workload at all loads with some policies, and logs a table of the results.
func simulateAll(t *testing.T, workload simWorkload, space float64, policies []simPolicy) simResults {
	var b strings.Builder
	const form = "%-24s %4s | %15s | %8s | %14s | %6s | %5s | %5s | %14s | %13s | %36s\n"
	fmt.Fprintf(&b, "%s\n", workload.name)
	fmt.Fprintf(&b, form, "", "", "polite keys", "greedy", "first <5 s", "429", "", "", "predicted", "spilled, per", "interrupted      answers         end")
	fmt.Fprintf(&b, form, "admission", "load", "p50         p95", "p95", "polite     all", "polite", "Jain", "idle", "±30 %  or ±1 s", "1000 requests", "of 1000  for p99  a minute  polite p95")
	results := simResults{}
	for _, p := range policies {
		results[p.name] = map[float64]simResult{}
		for _, load := range simLoads {
			s := newSimulation(simSetup{policy: p, workload: workload, load: load, space: space, requests: simRequests(), seed: 42}).run()
			r := s.result()
			results[p.name][load] = r
			if s.exceeded > 0 || space == 0 && r.idle > 0.01 {
				t.Errorf("%s at %.1f: the server had more requests than slots %d times; slots were idle %.2f %% of the time while requests waited", p.name, load, s.exceeded, 100*r.idle)
			}
			predicted := "     –       –"
			if r.closeOrSoon > 0 {
				predicted = fmt.Sprintf("%4.0f %%   %4.0f %%", 100*r.close, 100*r.closeOrSoon)
			}
			fmt.Fprintf(&b, "%-24s %4.1f | %5.2f s  %5.1f s | %6.0f s | %4.0f %%  %4.0f %% | %4.0f %% | %5.3f | %3.1f %% | %14s | %4.0f %%  $%.2f | %7.0f  %5.1f s  %8.1f   %7.1f s\n", p.name, load, r.politeP50.Seconds(), r.politeP95.Seconds(),
				r.greedyP95.Seconds(), 100*r.politeGood, 100*r.good, 100*r.refused, r.jain, 100*r.idle, predicted, 100*r.spilled, r.cost, r.interrupted, r.pause.Seconds(), r.perMinute, r.politeEnd.Seconds())
		}
	}
	t.Log("\n" + b.String())
	return results
}

// A simPanel is one of the diagrams of the picture.
type simPanel struct {
	title    string
	policies []simPolicy
	results  simResults
}

// drawSimulation returns a picture of the polite keys' p95: bars on a logarithmic scale, in colors for light and dark pages alike.
func drawSimulation(panels ...simPanel) string {
	const left, top, height, panel, decades, bar, gap = 64, 40, 240, 340, 4, 34, 50
	var b strings.Builder
	width := left + 5*(3*bar+gap) + gap
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#888">`+"\n", width, len(panels)*panel)
	for n, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n"+`<text x="%d" y="18">%s</text>`+"\n", n*panel, left, p.title)
		for d := range decades + 1 {
			y := top + height - d*height/decades
			fmt.Fprintf(&b, `<path d="M%d %dH%d" stroke="#888" stroke-opacity=".3"/><text x="%d" y="%d" text-anchor="end">%.0f s</text>`+"\n", left, y, width, left-6, y+4, math.Pow10(d))
		}
		for i, policy := range p.policies {
			x := left + gap + i*(3*bar+gap)
			for n, load := range simLoads {
				p95 := p.results[policy.name][load].politeP95.Seconds()
				h := int(math.Log10(max(p95, 1)) * height / decades)
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d" text-anchor="middle">%.0f</text>`+"\n",
					x+n*bar, top+height-h, bar-4, h, []string{"#8fb8de", "#4a86c0", "#2f6ca3"}[n], x+n*bar+bar/2-2, top+height-h-4, p95)
				fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%.1f</text>`+"\n", x+n*bar+bar/2-2, top+height+16, load)
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", x+3*bar/2, top+height+36, policy.name)
		}
		b.WriteString("</g>\n")
	}
	return b.String() + "</svg>\n"
}

// A server with eight slots gets the requests of three keys, one of them greedy, at a load below, at and above its capacity. The keys
// that ask for less than their share must hardly notice the greedy one.
func TestSimulation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policies := []simPolicy{simUnbounded, simFIFO, simRoundRobin, simFair, simSpilling}
		results := simulateAll(t, simMixed, 0, policies)
		if *picture != "" {
			others := []simPolicy{simFIFO, simRoundRobin, simFair}
			drawn := drawSimulation(
				simPanel{"All keys send the same mix: within how many seconds 95 % of the polite keys' requests have their first token, by load", policies, results},
				simPanel{"The greedy key is an agent with long prompts, and the polite ones chat", others, simulateAll(t, simAgents, 0, others)})
			if err := os.WriteFile(*picture, []byte(drawn), 0o644); err != nil {
				t.Error(err)
			}
		}
		fair, fifo, spilling := results[simFair.name], results[simFIFO.name], results[simSpilling.name]
		if calm, busy := fair[0.7].politeP95, fair[1.5].politeP95; busy.Seconds() > 1.3*calm.Seconds() {
			t.Errorf("the polite keys' p95 is %s at 1.5, and was %s at 0.7", busy, calm)
		}
		if fair[1.5].jain < 0.95 || fair[1.5].jain < fifo[1.5].jain {
			t.Errorf("Jain's index is %.3f, and %.3f without fairness", fair[1.5].jain, fifo[1.5].jain)
		}
		if fair[1.5].refused > 0 || fifo[1.5].politeP95 < 5*fair[1.5].politeP95 {
			t.Errorf("polite keys: %.1f %% are refused, p95 %s, and %s without fairness", 100*fair[1.5].refused, fair[1.5].politeP95, fifo[1.5].politeP95)
		}
		for load, least := range map[float64]float64{0.7: 0.8, 1.0: 0.66, 1.5: 0.75} { // docs/queue.md says what is possible
			if fair[load].close < least {
				t.Errorf("at %.1f, %.0f %% of the forecasts were within 30 %%", load, 100*fair[load].close)
			}
		}
		if spilling[1.5].good < 0.8 || spilling[0.7].spilled > 0.1 || spilling[1.5].spilled < 0.3 {
			t.Errorf("with spilling, %.0f %% come within 5 s at 1.5; %.0f %% are spilled, and %.0f %% at 0.7", 100*spilling[1.5].good, 100*spilling[1.5].spilled, 100*spilling[0.7].spilled)
		}
	})
}

// The slots of the server are never exceeded, however many requests come.
func TestSimulationOfAMillion(t *testing.T) {
	if *simulated == 0 {
		return // in make simulate
	}
	synctest.Test(t, func(t *testing.T) {
		const many = 1_000_000
		s := newSimulation(simSetup{policy: simFair, workload: simMixed, load: 1.5, requests: many, seed: 1}).run()
		t.Logf("%d requests at 1.5: the server had more than %d at once %d times", many, simSlots, s.exceeded)
		if s.exceeded > 0 {
			t.Error("slots were exceeded")
		}
	})
}

// An agent with long prompts gets no more of the server than its share, and the two chats hardly notice it. If each request counted the same,
// the chats would wait for the agent.
func TestSimulationOfAnAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := simulateAll(t, simAgents, 0, []simPolicy{simFIFO, simRoundRobin, simFair})
		turns, fair := results[simRoundRobin.name][1.5], results[simFair.name][1.5]
		if fair.jain < 0.95 || fair.politeGood < 0.9 || fair.refused > 0 || turns.politeP95 < 5*fair.politeP95 || turns.refused < 0.1 {
			t.Errorf("by tokens: %+v, in turn: %+v", fair, turns)
		}
	})
}

// A server whose KV cache is small interrupts fewer requests if they are admitted by their tokens. That must not cost much.
func TestSimulationOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results := simulateAll(t, simThinking, simSpace, []simPolicy{simFair, simByTokens})
		for _, load := range []float64{1.0, 1.5} {
			slots, tokens := results[simFair.name][load], results[simByTokens.name][load]
			if tokens.interrupted > 0.6*slots.interrupted || tokens.perMinute < 0.9*slots.perMinute || tokens.politeEnd.Seconds() > 1.2*slots.politeEnd.Seconds() {
				t.Errorf("at %.1f, by tokens: %+v, by slots: %+v", load, tokens, slots)
			}
		}
	})
}
