package admission

import (
	"math"
	"time"
)

// A Load is what a server says about its load.
type Load struct {
	// Known reports whether it says anything at all. An unknown load changes nothing.
	Known bool
	// Asked is when the server was asked, and Own how many of the queue's requests were in flight then.
	Asked time.Time
	Own   int
	// Running is how many requests it generates for, from all its clients, and Waiting how many more wait inside of it.
	Running, Waiting int
	// Slots is for how many requests it generates at once at most. Zero means that it does not say so.
	Slots int
	// Learns means that its slots are to be learned from its load, because it does not say how many it has.
	Learns bool
	// Tokens is for how many tokens of prompts and answers together its memory has space, if its requests share that. Zero means that
	// this is unknown or that every slot has space of its own.
	Tokens int
	// Preemptions counts how often it interrupted a request because that space was used up.
	Preemptions float64
}

const (
	// foreignFresh is the age up to which what a server has said about other clients counts in full, and foreignStale the one from which on
	// it does not count any more.
	foreignFresh = 2 * time.Second
	foreignStale = 6 * time.Second
	// growAfter is how long a learned number of slots must have sufficed without a change before it grows.
	growAfter = 15 * time.Second
	// growBy is by which part of itself a learned number of slots grows, and by one at least.
	growBy = 16
	// shrunk is what remains of the slots and of the tokens when the server has interrupted requests.
	shrunk = 0.9
	// tokensRecover is which part of the tokens comes back per minute without interruptions.
	tokensRecover = 0.1
	// tokensUsed is the part of a server's space for tokens that is used, because what requests will need is an estimate.
	tokensUsed = 0.9
)

// capacity is what a server has shown of how much it can do at once. It knows nothing of the queue, whose lock guards it.
type capacity struct {
	stated  int // slots, as the server says
	learned int // the slots that overload has shown; zero until then
	changed time.Time
	last    Load // the latest known load
	// tokens is the server's space, and share the part of it that is left to use after interruptions.
	tokens int
	share  float64
	// foreign is how many requests of other clients are there.
	foreign int
}

// slots returns how many requests may be in flight; zero means no limit. Limit is how many the configuration allows, initial how many are
// possible until the server has shown more. What other clients use of the server's slots is left to them, but one request is always
// possible: otherwise others could keep the server for themselves.
func (c *capacity) slots(limit, initial int) int {
	known := c.stated
	if known == 0 {
		known = c.learned
	}
	if known == 0 {
		return lower(limit, initial)
	}
	return lower(limit, max(known-c.foreignNow(), 1))
}

// lower returns the lower one of two limits. Zero means no limit.
func lower(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// learn learns from a known load. Own is how many requests of the queue may have been in flight.
func (c *capacity) learn(l Load, own int) {
	before := c.last
	c.last = l
	if l.Slots > 0 {
		c.stated = l.Slots
	}
	c.foreign = max(l.Running+l.Waiting-own, 0)
	preempted := before.Known && l.Preemptions > before.Preemptions
	if c.tokens > 0 {
		c.share = min(c.share+tokensRecover*l.Asked.Sub(before.Asked).Minutes(), 1)
		if preempted {
			c.share *= shrunk
		}
	}
	if !l.Learns {
		c.learned = 0
		return
	}
	// A request that has just arrived waits for the next step of the engine, which proves nothing. A queue that does not become shorter
	// while the engine takes up no more does.
	fresh := before.Known && l.Asked.Sub(before.Asked) < foreignStale
	overloaded := fresh && before.Waiting > 0 && l.Waiting >= before.Waiting && l.Running <= before.Running
	switch {
	case preempted:
		most := max(l.Running, before.Running) // most of them may have ended since
		c.setLearned(lower(c.learned, max(int(shrunk*float64(most)), 1)), l.Asked)
	case overloaded:
		c.setLearned(before.Running, l.Asked)
	case c.learned == 0 || l.Waiting > 0:
	case l.Running > c.learned: // it can do more than was known
		c.setLearned(l.Running, l.Asked)
	case own+c.foreign >= c.learned && l.Asked.Sub(c.changed) >= growAfter:
		c.setLearned(c.learned+max(c.learned/growBy, 1), l.Asked)
	}
}

func (c *capacity) setLearned(n int, now time.Time) { c.learned, c.changed = max(n, 1), now }

// foreignNow returns how many requests of other clients are at the server, as far as that is known. It fades, because such requests end
// without notice.
func (c *capacity) foreignNow() int {
	if c.foreign == 0 {
		return 0
	}
	switch age := time.Since(c.last.Asked); {
	case age <= foreignFresh:
		return c.foreign
	case age >= foreignStale:
		return 0
	default:
		return int(math.Ceil(float64(c.foreign) * float64(foreignStale-age) / float64(foreignStale-foreignFresh)))
	}
}

// tokenLimit returns how many tokens the requests in flight may need.
func (c *capacity) tokenLimit() int { return int(tokensUsed * c.share * float64(c.tokens)) }

// bounds reports whether what is known bounds the requests in flight.
func (c *capacity) bounds() bool { return c.stated > 0 || c.learned > 0 || c.tokens > 0 }
