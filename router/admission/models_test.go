package admission

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A swapper is a server whose memory has space for one model only. Like llama.cpp in router mode, it loads another one when the requests
// for the one that it has are done.
type swapper struct {
	load     time.Duration // to load a model
	mu       sync.Mutex
	idle     *sync.Cond
	model    string
	loading  bool // nothing is served meanwhile
	inFlight int
	swaps    int
	mixed    int // requests that came while those for another model were in flight
}

func newSwapper(load time.Duration) *swapper {
	s := &swapper{load: load}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// serve serves a request for a model.
func (s *swapper) serve(model string, takes time.Duration, loaded func()) {
	s.mu.Lock()
	if s.model != model && s.inFlight > 0 {
		s.mixed++
	}
	for s.loading || s.model != model && s.inFlight > 0 {
		s.idle.Wait()
	}
	s.inFlight++
	if s.model != model {
		s.model, s.loading = model, true
		s.swaps++
		s.mu.Unlock()
		time.Sleep(s.load)
		loaded()
		s.mu.Lock()
		s.loading = false
		s.idle.Broadcast()
	}
	s.mu.Unlock()
	time.Sleep(takes)
	s.mu.Lock()
	s.inFlight--
	s.idle.Broadcast()
	s.mu.Unlock()
}

// Two keys with a model each send requests at random to a server that has space for one of them. Without knowledge of the models, nearly
// every second request makes the server load the other one.
func TestModelsTakeTurns(t *testing.T) {
	const (
		n       = 400
		service = time.Second
		load    = 5 * time.Second
	)
	run := func(slots int, load time.Duration, knows bool) (swaps, mixed int, p95 map[string]time.Duration) {
		g, server, p95 := groupsOf(1, slots, n)[0], newSwapper(load), map[string]time.Duration{}
		g.Queue.MaxWait = time.Hour
		if knows {
			g.queue.ObserveModels(Models{Asked: time.Now(), InMemory: nil, Most: 1})
		}
		random, waits := rand.New(rand.NewPCG(1, 2)), map[string][]time.Duration{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for range n {
			model := []string{"big", "small"}[random.IntN(2)]
			takes := time.Duration((0.5 + random.Float64()) * float64(service))
			time.Sleep(time.Duration(random.ExpFloat64() / (0.6 * float64(slots)) * float64(service)))
			all.Go(func() {
				came, slot := time.Now(), &Slot{Request: Request{Caller: Caller{Key: model}}}
				if !g.queue.Take(&g.Rules, model, slot) {
					ticket, ok := Enqueue(slot, true, []Place{{&g.Rules, g.queue, model}})
					if !ok {
						t.Error("a request was refused")
						return
					}
					<-ticket.Granted()
					ticket.Leave()
				}
				server.serve(model, takes, func() { g.queue.Loaded(model, load) })
				mu.Lock()
				waits[model] = append(waits[model], time.Since(came)-takes)
				mu.Unlock()
				slot.Release(Usage{})
			})
		}
		all.Wait()
		for model, list := range waits {
			slices.Sort(list)
			p95[model] = list[len(list)*95/100]
		}
		return server.swaps, server.mixed, p95
	}
	for _, slots := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d slots", slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, _, waitedBefore := run(slots, load, false)
				after, mixed, waited := run(slots, load, true)
				t.Logf("swaps: %d, then %d; p95: %v, then %v", before, after, waitedBefore, waited)
				if after*4 > before {
					t.Errorf("%d swaps instead of %d", after, before)
				}
				for model, p95 := range waited {
					if p95*4 > waitedBefore[model] {
						t.Errorf("%s waits %v instead of %v", model, p95, waitedBefore[model])
					}
				}
				if mixed > 0 {
					t.Errorf("%d requests were sent while those for another model were in flight", mixed)
				}
			})
		})
	}
}

// modelsOrder puts requests into the queue of a server with one slot, and returns the order in which they are served, each for a while.
func modelsOrder(g *group, takes time.Duration, requests []Slot, models []string) (order string) {
	tickets := make([]*Ticket, len(requests))
	for i := range requests {
		tickets[i], _ = Enqueue(&requests[i], true, []Place{{&g.Rules, g.queue, models[i]}})
		time.Sleep(time.Millisecond)
	}
	for range requests {
		for i, ticket := range tickets {
			if ticket != nil && got(ticket) == "0" {
				order += requests[i].ID
				ticket.Leave()
				tickets[i] = nil
				time.Sleep(takes)
				requests[i].Release(Usage{})
				break
			}
		}
	}
	return order
}

func TestOrderOfModels(t *testing.T) {
	request := func(id string, p Priority) Slot {
		return Slot{Request: Request{ID: id, Caller: Caller{Key: id[:1]}, Priority: p}}
	}
	for _, test := range []struct {
		name   string
		takes  time.Duration
		memory Models
		load   time.Duration // that has been measured
		queue  []Slot        // the first letter of an ID is the key, the second one the model
		want   string
	}{
		{"by their shares, if the server has all models", time.Second, Models{All: true}, 0,
			[]Slot{request("aX ", 0), request("bY ", 0), request("aX ", 0), request("bY ", 0)}, "aX bY aX bY "},
		{"the model in memory first", time.Second, Models{InMemory: []string{"X"}, Most: 1}, 0,
			[]Slot{request("bY ", 0), request("aX ", 0), request("bY ", 0), request("aX ", 0)}, "aX aX bY bY "},
		{"also of one key", time.Second, Models{InMemory: []string{"X"}, Most: 1}, 0,
			[]Slot{request("aX ", 0), request("aY ", 0), request("aX ", 0), request("aY ", 0)}, "aX aX aY aY "},
		{"until its turn is over", 4 * time.Second, Models{InMemory: []string{"X"}, Most: 1}, 0,
			[]Slot{request("aX ", 0), request("bY ", 0), request("aX ", 0), request("aX ", 0), request("aX ", 0), request("bY ", 0)}, "aX aX aX bY bY aX "},
		{"turns are as long as loads are slow", 4 * time.Second, Models{InMemory: []string{"X"}, Most: 1}, 4 * time.Second,
			[]Slot{request("aX ", 0), request("bY ", 0), request("aX ", 0), request("aX ", 0), request("aX ", 0), request("bY ", 0)}, "aX aX aX aX bY bY "},
		{"and as short as they are quick", 1200 * time.Millisecond, Models{InMemory: []string{"X"}, Most: 1}, 100 * time.Millisecond,
			[]Slot{request("aX ", 0), request("bY ", 0), request("aX ", 0), request("aX ", 0), request("bY ", 0)}, "aX aX bY bY aX "},
		{"in any order, if there is space", time.Second, Models{InMemory: []string{"X"}, Most: 2}, 0,
			[]Slot{request("bY ", 0), request("aX ", 0), request("bY ", 0), request("aX ", 0)}, "bY aX bY aX "},
		{"a higher priority first", time.Second, Models{InMemory: []string{"X"}, Most: 1}, 0,
			[]Slot{request("aX ", Low), request("aX ", Low), request("bY ", High), request("cX ", Normal)}, "bY cX aX aX "},
		{"the same model for all keys", time.Second, Models{InMemory: []string{"X"}, Most: 1}, 0,
			[]Slot{request("aX ", 0), request("aX ", 0), request("aY ", 0), request("bX ", 0)}, "aX bX aX aY "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := groupsOf(1, 1, 10)[0]
				g.Queue.MaxWait = time.Hour
				test.memory.Asked = time.Now()
				g.queue.ObserveModels(test.memory)
				if test.load > 0 {
					g.queue.Loaded("X", test.load)
					time.Sleep(time.Minute)
				}
				busy := Slot{}
				g.queue.Take(&g.Rules, "X", &busy)
				models := make([]string, len(test.queue))
				for i := range test.queue {
					models[i] = test.queue[i].ID[1:2]
				}
				time.AfterFunc(time.Duration(len(test.queue))*time.Millisecond-time.Microsecond, func() { busy.Release(Usage{}) })
				if diff := cmp.Diff(test.want, modelsOrder(g, test.takes, test.queue, models)); diff != "" {
					t.Error(diff)
				}
				expectIdle(t, g.queue, 0)
			})
		})
	}
}

// The keys of a server that loads their models in turns get their shares all the same.
func TestTurnsKeepShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 1, 200)[0]
		g.Queue.MaxWait = time.Hour
		g.queue.ObserveModels(Models{Asked: time.Now(), Most: 1})
		served, swaps, in := map[string]int{}, 0, ""
		var tickets []*Ticket
		var slots []*Slot
		for i := range 200 {
			key := []string{"a", "b"}[i%2]
			slot := &Slot{Request: Request{ID: key, Caller: Caller{Key: key}, Weight: 1 + 2*(i%2)}}
			ticket, _ := Enqueue(slot, true, []Place{{&g.Rules, g.queue, key}})
			tickets, slots = append(tickets, ticket), append(slots, slot)
		}
		for range 120 {
			for i, ticket := range tickets {
				if ticket == nil || got(ticket) != "0" {
					continue
				}
				ticket.Leave()
				tickets[i] = nil
				if slots[i].ID != in {
					in = slots[i].ID
					swaps++
				}
				served[in]++
				time.Sleep(time.Second)
				slots[i].Release(Usage{})
				break
			}
		}
		if b := served["b"]; b < 75 { // of 90; a turn is ten requests
			t.Errorf("a key with three times the weight got %d of 120 requests", b)
		}
		if swaps > 13 {
			t.Errorf("%d swaps", swaps)
		}
	})
}

// How many models a server with unknown memory holds is learned when a model that was in use has made room for another one, or when more are there.
func TestLearnsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 2, 10)[0]
		use := func(model string) *Slot {
			slot := new(Slot)
			if !g.queue.Take(&g.Rules, model, slot) {
				return nil
			}
			return slot
		}
		observe := func(models ...string) {
			time.Sleep(time.Second)
			g.queue.ObserveModels(Models{Asked: time.Now(), InMemory: models})
			time.Sleep(time.Second)
		}
		observe("x")
		x := use("x")
		y := use("y")
		if x == nil || y == nil {
			t.Fatal("nothing is known yet that is against two models at once")
		}
		x.Release(Usage{})
		observe("y")
		if use("x") != nil {
			t.Error("x had to make room for y, but is sent to the server while y is in use")
		}
		y.Release(Usage{})
		if x = use("x"); x == nil {
			t.Fatal("no request is in flight")
		}
		observe("x", "y")
		if y = use("y"); y == nil {
			t.Error("both are in memory")
		}
		x.Release(Usage{})
		y.Release(Usage{})
		time.Sleep(time.Minute)
		observe("x")
		if y = use("y"); y == nil {
			t.Error("a model that has been idle for long may have been unloaded for that reason")
		}
		if x = use("x"); x == nil {
			t.Error("x and y are in memory")
		}
	})
}

// While a request for another model waits until the server is done with the one that it has, no more requests for that are sent there. If
// it leaves, they are.
func TestTurnsEndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := groupsOf(1, 2, 10)[0]
		g.queue.ObserveModels(Models{Asked: time.Now(), InMemory: []string{"x"}, Most: 1})
		busy := new(Slot)
		g.queue.Take(&g.Rules, "x", busy)
		wait := func(model string) *Ticket {
			slot := new(Slot)
			if g.queue.Take(&g.Rules, model, slot) {
				t.Fatalf("a request for %s did not wait", model)
			}
			ticket, _ := Enqueue(slot, true, []Place{{&g.Rules, g.queue, model}})
			return ticket
		}
		y := wait("y")
		x := wait("x")
		if got(x) != "0" {
			t.Error("in the turn of its model, and with a free slot, a request waits")
		}
		x.Leave()
		x.slot.Release(Usage{})
		time.Sleep(unknownTurn)
		x = wait("x")
		if got(x) != "" || got(y) != "" {
			t.Error("after the turn, a request was sent although another model is next, or that one while the server is not done")
		}
		y.Leave()
		if got(x) != "0" {
			t.Error("nobody waits for another model any more")
		}
		x.Leave()
		x.slot.Release(Usage{})
		busy.Release(Usage{})
		expectIdle(t, g.queue, 0)
	})
}

// A request knows whether its model was in memory when it got its slot, because a server may have unloaded a model that was loaded lately.
func TestColdSlots(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 1)[0]
	cold := func(model string) bool {
		slot := new(Slot)
		if !g.queue.Take(&g.Rules, model, slot) {
			t.Fatal("no slot is free")
		}
		defer slot.Release(Usage{})
		return slot.IsCold()
	}
	if cold("x") {
		t.Error("nothing is known yet")
	}
	g.queue.ObserveModels(Models{Asked: time.Now(), InMemory: []string{"x"}, Most: 1})
	for _, step := range []struct {
		model string
		cold  bool
	}{{"x", false}, {"y", true}, {"y", false}, {"x", true}} {
		if got := cold(step.model); got != step.cold {
			t.Errorf("%s: %t", step.model, got)
		}
	}
}
