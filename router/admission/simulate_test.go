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

// The server of the simulation: a GPU with eight slots that reads prompts and writes answers at steady rates.
const (
	simSlots   = 8
	simPrefill = 4000.0 // tokens per second
	simDecode  = 40.0   // tokens per second and slot
	simStart   = 50 * time.Millisecond
	simQueue   = 64
)

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
	spill     time.Duration           // requests go on to another service when they take longer
}

func ownTurn(key string) string { return key }
func sameTurn(string) string    { return "" }

var simPolicies = []simPolicy{
	{name: "the server's own queue", unbounded: true, caller: sameTurn, blind: true},
	{name: "first come, first served", caller: sameTurn, blind: true},
	{name: "round robin", caller: ownTurn, blind: true},
	{name: "fair by tokens", caller: ownTurn},
	{name: "the same with spill 5s", caller: ownTurn, spill: 5 * time.Second},
}

// simKeys are the keys and what part of the capacity each asks for; the greedy one asks for the rest of the load.
var simKeys = []struct {
	name string
	load float64
}{{"ann", 0.2}, {"ben", 0.2}, {"greedy", 0}}

// A simRequest is a request of the simulation.
type simRequest struct {
	key       string
	arrived   time.Time
	prompt    int // as it is
	estimated int // as the gateway knows it
	limit     int // max_tokens
	output    int
	decode    time.Duration
	slot      Slot
	ticket    *Ticket
	forecast  Forecast
	started   time.Time
	first     time.Duration // to the first token; zero if it was refused
	spilled   bool
}

func (q *simRequest) prefill() time.Duration {
	return simStart + time.Duration(float64(q.prompt)/simPrefill*float64(time.Second))
}

func (q *simRequest) service() time.Duration { return q.prefill() + q.decode }

// newSimRequest returns a request of a mix of chats, documents and long prompts. A third of them limit the answer.
func newSimRequest(r *rand.Rand, key string) *simRequest {
	logNormal := func(median, sigma float64) float64 { return median * math.Exp(sigma*r.NormFloat64()) }
	q := &simRequest{key: key}
	switch kind := r.Float64(); {
	case kind < 0.70:
		q.prompt = int(logNormal(300, 0.8))
	case kind < 0.95:
		q.prompt = int(logNormal(3000, 0.6))
	default:
		q.prompt = 10_000 + r.IntN(14_000)
	}
	q.prompt = min(max(q.prompt, 10), 30_000)
	q.output = int(min(max(logNormal(180, 0.7), 4), 2000))
	if r.IntN(3) == 0 {
		q.limit = []int{128, 256, 512}[r.IntN(3)]
		q.output = min(q.output, q.limit)
	}
	q.estimated = int(float64(q.prompt) * (0.85 + 0.3*r.Float64()))
	q.decode = time.Duration(float64(q.output) / simDecode * (0.9 + 0.2*r.Float64()) * float64(time.Second))
	return q
}

// simMeanService is how long a request holds a slot on average, in seconds.
func simMeanService() float64 {
	r, sum := rand.New(rand.NewPCG(1, 2)), 0.0
	const n = 50_000
	for range n {
		sum += newSimRequest(r, "").service().Seconds()
	}
	return sum / n
}

// A simEvent is an arrival, the end of a wait, or the end of an answer.
type simEvent struct {
	at   time.Time
	what int
	q    *simRequest
}

const (
	simArrives = iota
	simGivesUp
	simEnds
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

// A simulation is one run.
type simulation struct {
	policy   simPolicy
	spill    *Spill
	load     float64
	random   *rand.Rand
	group    *group
	events   simEvents
	waiting  map[*Slot]*simRequest
	atServer map[*Slot]*simRequest // the server's own count
	done     []*simRequest
	service  map[string]float64 // seconds of slots that each key got
	offered  map[string]float64 // and asked for
	exceeded int
	idle     float64 // seconds of free slots while a request waited
	clock    time.Time
	elapsed  float64
	warm     time.Time
}

// simulate runs n requests at a load, relative to the capacity of the server.
func simulate(p simPolicy, load, mean float64, n int, seed uint64) *simulation {
	s := &simulation{
		policy: p, load: load, random: rand.New(rand.NewPCG(seed, 7)), group: groupsOf(1, simSlots, simQueue)[0],
		waiting: map[*Slot]*simRequest{}, atServer: map[*Slot]*simRequest{}, service: map[string]float64{}, offered: map[string]float64{}, clock: time.Now(),
	}
	if p.spill > 0 {
		s.spill = &Spill{After: p.spill}
	}
	s.group.Queue = Config{Size: simQueue}
	if p.unbounded {
		s.group.Queue = Config{Size: math.MaxInt32, PerCaller: math.MaxInt32, MaxWait: 1000 * time.Hour}
	} else if p.caller("a") == p.caller("b") {
		s.group.Queue.PerCaller = simQueue
	}
	capacity := simSlots / mean // requests per second
	rates := make([]float64, len(simKeys))
	for i, k := range simKeys {
		rates[i] = k.load * capacity
		if k.load == 0 {
			rates[i] = load * capacity
			for _, other := range simKeys {
				rates[i] -= other.load * capacity
			}
		}
	}
	total := load * capacity
	next := func() {
		pick, i := s.random.Float64()*total, 0
		for ; i < len(rates)-1 && pick >= rates[i]; i++ {
			pick -= rates[i]
		}
		at := s.clock.Add(time.Duration(s.random.ExpFloat64() / total * float64(time.Second)))
		heap.Push(&s.events, simEvent{at, simArrives, newSimRequest(s.random, simKeys[i].name)})
	}
	next()
	for arrived := 0; len(s.events) > 0; {
		e := heap.Pop(&s.events).(simEvent)
		s.advance(e.at)
		switch e.what {
		case simArrives:
			if arrived++; arrived < n {
				next()
			}
			if arrived == n/10 {
				s.warm, s.elapsed, s.idle = s.clock, 0, 0
				clear(s.service)
				clear(s.offered)
			}
			s.arrive(e.q)
		case simGivesUp:
			if s.waiting[&e.q.slot] == e.q {
				delete(s.waiting, &e.q.slot)
				e.q.ticket.Leave()
				s.refuse(e.q)
			}
		case simEnds:
			s.finish(e.q)
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
	if free := simSlots - len(s.atServer); len(s.waiting) > 0 && free > 0 {
		s.idle += float64(free) * d.Seconds()
	}
}

func (s *simulation) arrive(q *simRequest) {
	q.arrived = s.clock
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
		q.forecast = Forecast{Known: !s.policy.blind, FirstToken: seconds(s.group.queue.rates.of("m").expect(&q.slot.Request).prefill)}
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
	if full {
		s.dropDisplaced()
	}
}

// dropDisplaced ends the requests that lost their positions.
func (s *simulation) dropDisplaced() {
	for slot, q := range s.waiting {
		select {
		case <-q.ticket.Granted(): // no slot was released, so that it can only be displaced
			delete(s.waiting, slot)
			q.ticket.Leave()
			s.refuse(q)
		default:
		}
	}
}

// start starts a request at the server.
func (s *simulation) start(q *simRequest) {
	s.atServer[&q.slot] = q
	if len(s.atServer) > simSlots {
		s.exceeded++
	}
	q.started = s.clock
	q.first = s.clock.Sub(q.arrived) + q.prefill()
	heap.Push(&s.events, simEvent{s.clock.Add(q.service()), simEnds, q})
}

func (s *simulation) finish(q *simRequest) {
	delete(s.atServer, &q.slot)
	s.service[q.key] += q.service().Seconds()
	s.end(q)
	used := Usage{}
	if !s.policy.blind {
		used = Usage{Known: true, Complete: true, Prompt: q.prompt, Output: q.output, Prefill: q.prefill(), Decode: q.decode}
	}
	q.slot.Release(used)
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
}

func (s *simulation) result() (r simResult) {
	var polite, greedy []time.Duration
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
		if q.forecast.Known && !q.spilled {
			predicted++
			off := q.first - q.forecast.FirstToken
			isClose := off.Abs().Seconds() <= 0.3*q.forecast.FirstToken.Seconds()
			if isClose {
				r.close++
			}
			if isClose || off.Abs() <= time.Second {
				r.closeOrSoon++
			}
		}
	}
	r.politeP50, r.politeP95, r.greedyP95 = percentile(polite, 50), percentile(polite, 95), percentile(greedy, 95)
	r.good, r.politeGood, r.refused = r.good/float64(len(s.done)), r.politeGood/politeN, r.refused/politeN
	r.close, r.closeOrSoon = r.close/max(predicted, 1), r.closeOrSoon/max(predicted, 1)
	r.spilled, r.cost = r.spilled/float64(len(s.done)), r.cost/float64(len(s.done))
	r.jain, r.idle = s.jain(), s.idle/(simSlots*s.elapsed)
	return r
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
	for _, k := range simKeys {
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

// simTable is a table of results.
type simTable struct{ strings.Builder }

func (t *simTable) header() {
	const form = "%-24s %4s | %15s | %8s | %14s | %6s | %5s | %5s | %14s | %13s\n"
	fmt.Fprintf(t, form, "", "", "polite keys", "greedy", "first <5 s", "429", "", "", "predicted", "spilled, per")
	fmt.Fprintf(t, form, "admission", "load", "p50         p95", "p95", "polite     all", "polite", "Jain", "idle", "±30 %  or ±1 s", "1000 requests")
}

func (t *simTable) row(name string, load float64, r simResult) {
	predicted := "     –       –"
	if r.closeOrSoon > 0 {
		predicted = fmt.Sprintf("%4.0f %%   %4.0f %%", 100*r.close, 100*r.closeOrSoon)
	}
	fmt.Fprintf(t, "%-24s %4.1f | %5.2f s  %5.1f s | %6.0f s | %4.0f %%  %4.0f %% | %4.0f %% | %5.3f | %3.1f %% | %14s | %4.0f %%  $%.2f\n", name, load, r.politeP50.Seconds(), r.politeP95.Seconds(),
		r.greedyP95.Seconds(), 100*r.politeGood, 100*r.good, 100*r.refused, r.jain, 100*r.idle, predicted, 100*r.spilled, r.cost)
}

// drawSimulation returns a picture of the polite keys' p95: bars on a logarithmic scale, in the colors of light and dark pages alike.
func drawSimulation(results map[string]map[float64]simResult) string {
	const left, top, height, decades, bar, gap = 60, 40, 240, 4, 34, 28
	var b strings.Builder
	width := left + len(simPolicies)*(3*bar+gap) + gap
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#888">`+"\n", width, top+height+50)
	fmt.Fprintf(&b, `<text x="%d" y="18">Time to the first token that 95 %% of the requests of the two polite keys keep to</text>`+"\n", left)
	for d := range decades + 1 {
		y := top + height - d*height/decades
		fmt.Fprintf(&b, `<path d="M%d %dH%d" stroke="#8884"/><text x="%d" y="%d" text-anchor="end">%.0f s</text>`+"\n", left, y, width, left-6, y+4, math.Pow10(d))
	}
	for i, p := range simPolicies {
		x := left + gap + i*(3*bar+gap)
		for n, load := range []float64{0.7, 1.0, 1.5} {
			p95 := results[p.name][load].politeP95.Seconds()
			h := int(math.Log10(max(p95, 1)) * height / decades)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d" text-anchor="middle">%.0f</text>`+"\n",
				x+n*bar, top+height-h, bar-4, h, []string{"#8fb8de", "#4a86c0", "#1f4e79"}[n], x+n*bar+bar/2-2, top+height-h-4, p95)
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%.1f</text>`+"\n", x+n*bar+bar/2-2, top+height+16, load)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", x+3*bar/2, top+height+36, p.name)
	}
	return b.String() + "</svg>\n"
}

// A server with eight slots gets the requests of three keys of which one is greedy, at a load below, at and above its capacity. The keys
// that ask for less than their share must hardly notice the greedy one.
func TestSimulation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 6000
		if *simulated > 0 {
			n = *simulated
		}
		mean := simMeanService()
		var table simTable
		results := map[string]map[float64]simResult{}
		table.header()
		for _, p := range simPolicies {
			results[p.name] = map[float64]simResult{}
			for _, load := range []float64{0.7, 1.0, 1.5} {
				s := simulate(p, load, mean, n, 42)
				r := s.result()
				results[p.name][load] = r
				if s.exceeded > 0 || r.idle > 0.01 {
					t.Errorf("%s at %.1f: the server had more requests than slots %d times; slots were idle %.2f %% of the time while requests waited", p.name, load, s.exceeded, 100*r.idle)
				}
				table.row(p.name, load, r)
			}
		}
		t.Log("\n" + table.String())
		if *picture != "" {
			if err := os.WriteFile(*picture, []byte(drawSimulation(results)), 0o644); err != nil {
				t.Error(err)
			}
		}
		fair, fifo := results["fair by tokens"], results["first come, first served"]
		if calm, busy := fair[0.7].politeP95, fair[1.5].politeP95; busy.Seconds() > 1.3*calm.Seconds() {
			t.Errorf("the polite keys' p95 is %s at 1.5, and was %s at 0.7", busy, calm)
		}
		if fair[1.5].jain < 0.95 || fair[1.5].jain < fifo[1.5].jain {
			t.Errorf("Jain's index is %.3f, and %.3f without fairness", fair[1.5].jain, fifo[1.5].jain)
		}
		if fair[1.5].refused > 0 || fifo[1.5].politeP95 < 5*fair[1.5].politeP95 {
			t.Errorf("polite keys: %.1f %% are refused, p95 %s, and %s without fairness", 100*fair[1.5].refused, fair[1.5].politeP95, fifo[1.5].politeP95)
		}
		if fair[0.7].closeOrSoon < 0.8 || fair[1.5].close < 0.6 {
			t.Errorf("predicted: %.0f %% at 0.7, %.0f %% at 1.5", 100*fair[0.7].closeOrSoon, 100*fair[1.5].close)
		}
		spill := results["the same with spill 5s"]
		if spill[1.5].good < 0.8 || spill[0.7].spilled > 0.1 || spill[1.5].spilled < 0.3 {
			t.Errorf("with spilling, %.0f %% come within 5 s at 1.5; %.0f %% are spilled, and %.0f %% at 0.7", 100*spill[1.5].good, 100*spill[1.5].spilled, 100*spill[0.7].spilled)
		}
		if *simulated > 0 {
			const many = 1_000_000
			s := simulate(simPolicies[slices.IndexFunc(simPolicies, func(p simPolicy) bool { return p.name == "fair by tokens" })], 1.5, mean, many, 1)
			t.Logf("%d requests at 1.5: the server had more than %d at once %d times", many, simSlots, s.exceeded)
			if s.exceeded > 0 {
				t.Error("slots were exceeded")
			}
		}
	})
}
