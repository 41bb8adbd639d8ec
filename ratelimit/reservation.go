package ratelimit

import (
	"time"
)

// A Reservation is what one request asks of the limits that apply to it, and the result. A store's Take reserves the estimate;
// its Settle replaces the estimate by the real usage. It belongs to one request and is not safe for concurrent use.
type Reservation struct {
	// Limits apply all: if one does not allow the request, nothing is taken of any.
	Limits []*Limit
	// Tokens is the estimate of what the request uses, prompt and answer.
	Tokens int64
	// Prompt is the part of Tokens that is not a guess: a limit smaller than an answer may be is taken whole, but a prompt that
	// is larger than a limit never fits.
	Prompt int64
	// Spend is the estimate of what it costs, in billionths of a dollar.
	Spend int64

	// At is when it was taken; zero if it was not, or was settled.
	At time.Time
	// Left is the state of each limit, after the take.
	Left []State
	// Denied is the limit that does not allow the request; nil if all do.
	Denied *Limit
	// Wait is how long the denied one has to wait; Never if time alone does not help.
	Wait time.Duration
	// Crossed hears of a budget of which so many percent are now used: 80 or 100, each told once. Nil for nobody. It may be
	// called from another goroutine, and must not block.
	Crossed func(budget *Limit, percent int)

	share share
	owed  uint64 // the generation of offlineUsage that holds it; zero if it was reserved in Redis
	lease string
}

// Never is a wait that no time ends: until a running request ends, or for ever.
const Never = never

// A State is what is left of a limit.
type State struct {
	Left  int64
	Reset time.Duration // until all of it is free again; zero if it is, Never for places
}

// want is how much the request takes of a limit.
func (t *Reservation) want(r Rule) int64 {
	switch r.Unit {
	case Tokens:
		return max(min(t.Tokens, r.Limit), t.Prompt)
	case Spend:
		return t.Spend
	}
	return 1
}

// used is how much of a limit the request really used, once its tokens and its cost are known.
func used(u Unit, tokens, spend int64) int64 {
	switch u {
	case Tokens:
		return tokens
	case Spend:
		return spend
	}
	return 1
}

// deny keeps the limit for which the request waits the longest.
func (t *Reservation) deny(l *Limit, wait time.Duration) {
	if t.Denied == nil || wait > t.Wait {
		t.Denied, t.Wait = l, wait
	}
}

// state fits t.Left to the limits.
func (t *Reservation) state() []State {
	if cap(t.Left) < len(t.Limits) {
		t.Left = make([]State, len(t.Limits))
	}
	t.Left = t.Left[:len(t.Limits)]
	return t.Left
}
