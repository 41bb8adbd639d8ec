package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A share is a request that waits in TestFairShares: of a key, with a weight and a number of tokens.
type share struct {
	key    string
	weight int
	prompt int
	output int // max_tokens, and what the answer really has
}

// serve lets requests wait for the one slot of a group, and returns in which order their keys get it. Each answer has as many tokens as
// its request allows, unless real says otherwise.
func serve(t *testing.T, requests []share, real map[string]int) (order string) {
	t.Helper()
	g := groupsOf(1, 1, len(requests))[0]
	busy := &Slot{Request: Request{Caller: Caller{Key: "somebody"}}}
	if !g.take(busy) {
		t.Fatal("no slot is free")
	}
	tickets := map[*Slot]*Ticket{}
	for _, r := range requests {
		slot := &Slot{Request: Request{Caller: Caller{Key: r.key}, Weight: r.weight, Prompt: r.prompt, MaxOutput: r.output}}
		ticket, ok := Enqueue(slot, true, []Place{g.place()})
		if !ok {
			t.Fatal("the queue is full")
		}
		tickets[slot] = ticket
		time.Sleep(time.Millisecond)
	}
	busy.Release(Usage{})
	for range requests {
		slot := g.queue.inUse
		<-tickets[slot].Granted()
		tickets[slot].Leave()
		order += slot.Caller.Key
		used := Usage{}
		if n, ok := real[slot.Caller.Key]; ok {
			used = Usage{Known: true, Prompt: slot.Prompt, Output: n}
		}
		slot.Release(used)
	}
	expectIdle(t, g.queue, 0)
	return order
}

// repeat returns n requests like the given one.
func repeat(n int, r share) (list []share) {
	for range n {
		list = append(list, r)
	}
	return list
}

// The credit of one request, which each key has in a group of one slot, is part of the expected orders.
func TestFairShares(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		requests []share
		real     map[string]int
		order    string
	}{
		{"a key with many requests does not delay another's one", append(repeat(6, share{key: "g", output: 100}), share{key: "p", output: 100}), nil, "gpggggg"},
		{"two keys take turns", append(repeat(4, share{key: "g", output: 100}), repeat(3, share{key: "p", output: 100})...), nil, "gpgpgpg"},
		{"short answers come in more often", append(repeat(3, share{key: "l", output: 300}), repeat(6, share{key: "s", output: 100})...), nil, "lssslsssl"},
		{"so do short prompts", append(repeat(3, share{key: "l", prompt: 10_000, output: 100}), repeat(4, share{key: "s", prompt: 100, output: 100})...), nil, "lssssll"},
		{"a weight of three is three times the share", append(repeat(4, share{key: "a", output: 100}), repeat(8, share{key: "b", weight: 3, output: 100})...), nil, "ababbbabbbba"},
		{"what was really used counts", append(repeat(4, share{key: "g", output: 100}), repeat(4, share{key: "p", output: 100})...), map[string]int{"g": 300, "p": 100}, "gpppgpgg"},
		{"also if it is less", append(repeat(4, share{key: "g", output: 300}), repeat(3, share{key: "p", output: 100})...), map[string]int{"g": 100, "p": 100}, "gpgpgpg"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if order := serve(t, test.requests, test.real); order != test.order {
					t.Errorf("served %s, want %s", order, test.order)
				}
			})
		})
	}
}

// Requests of a key that are in flight when others begin to wait count as part of its share.
func TestRequestsInFlightCount(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 3, 8)[0]
	var slots []*Slot
	for range 3 {
		slot, _ := enterAs("greedy", Normal, g)
		slots = append(slots, slot)
	}
	_, greedy := enterAs("greedy", Normal, g)
	_, polite := enterAs("polite", Normal, g)
	slots[0].Release(Usage{})
	if got(greedy) != "" || got(polite) != "0" {
		t.Error("the key that has all slots got one more before the other key had any")
	}
	polite.Leave()
	slots[1].Release(Usage{})
	if got(greedy) != "0" {
		t.Error("no slot for the only request that waits")
	}
}

// Callers without a key take turns by their addresses.
func TestAddressesAreCallers(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 8)[0]
	busy, _ := enter(Normal, g)
	var tickets []*Ticket
	for _, address := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
		slot := &Slot{Request: Request{Caller: Caller{Address: netip.MustParseAddr(address)}}}
		ticket, ok := Enqueue(slot, true, []Place{g.place()})
		if !ok {
			t.Fatal("the queue is full")
		}
		tickets = append(tickets, ticket)
	}
	busy.Release(Usage{})
	<-tickets[0].Granted()
	tickets[0].slot.Release(Usage{})
	if got(tickets[1]) != "" || got(tickets[3]) != "0" {
		t.Error("the second address had to wait for all requests of the first one")
	}
}

// One caller may have all of the queue, unless it is limited. In a full queue, a caller that holds less displaces the last request of the
// one that holds most.
func TestPlacesPerCaller(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		most int
		want []string
	}{
		{"all", 0, []string{"a1 waits", "a2 waits", "a3 waits", "a4 waits", "a5 is refused", "b1 waits a4", "b2 waits a3", "b3 is refused", "c1 waits b2", "c2 is refused", "d1 waits a2"}},
		{"two", 2, []string{"a1 waits", "a2 waits", "a3 is refused", "a4 is refused", "a5 is refused", "b1 waits", "b2 waits", "b3 is refused", "c1 waits b2", "c2 is refused", "d1 waits a2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := fullLine(t, 4, time.Minute)
			l.group.Queue.PerCaller = test.most
			var came []string
			for _, name := range []string{"a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3", "c1", "c2", "d1"} {
				result := "is refused"
				if l.comeAs(name[:1], name, Normal) {
					result = strings.TrimSpace("waits " + l.leave(true))
				}
				came = append(came, name+" "+result)
			}
			if diff := cmp.Diff(test.want, came); diff != "" {
				t.Error(diff)
			}
			if order := l.served(); order != "a1b1c1d1" {
				t.Errorf("served %s", order)
			}
		})
	}
}

// The state of callers is bounded, and is dropped when no request waits any more.
func TestCallersAreForgotten(t *testing.T) {
	t.Parallel()
	g := groupsOf(1, 1, 2)[0]
	slot, _ := enterAs("first", Normal, g)
	_, always := enterAs("always", Low, g) // keeps the classes from beginning anew
	_, next := enterAs("next", Low, g)
	flows := func() int { return len(g.queue.classes[0].flows) }
	for i := range 3 * maxFlows {
		slot.Release(Usage{})
		switch {
		case got(always) == "0":
			always.Leave()
			slot = always.slot
			_, always = enterAs(fmt.Sprint("other", i), Low, g)
		case got(next) == "0":
			next.Leave()
			slot = next.slot
			_, next = enterAs(fmt.Sprint("one", i), Low, g)
		default:
			t.Fatal("nobody got the slot")
		}
		if flows() > 2*maxFlows {
			t.Fatalf("%d callers are remembered", flows())
		}
	}
	always.Leave()
	next.Leave()
	slot.Release(Usage{})
	expectIdle(t, g.queue, 0)
}
