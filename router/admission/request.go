package admission

import (
	"fmt"
	"net/netip"
)

// A Caller is whose turn a request takes: that of its key, or of its address if it has none. The zero value is a caller, too.
type Caller struct {
	Key     string
	Address netip.Addr
}

// A Request is what admission knows about a request.
type Request struct {
	// ID and Name are the ID of the request, and the model's name that the client used, for those who look at the queue.
	ID, Name string
	Caller   Caller
	Priority Priority
	// Weight is the caller's share of the slots, relative to that of others in its class: from 1 to MaxWeight. Zero means 1.
	Weight int
	// Prompt is an estimate of the tokens of the prompt.
	Prompt int
	// MaxOutput is the longest answer in tokens, or zero if the request does not limit it.
	MaxOutput int
}

// MaxWeight is the largest weight of a caller.
const MaxWeight = 1000

// A Priority is a class of requests: the higher class gets the next free slot, and within a class the callers share the slots.
// The zero value is Normal.
type Priority int8

// The priorities.
const (
	Low Priority = iota - 1
	Normal
	High
)

var priorities = [...]string{"low", "normal", "high"}

// ParsePriority parses the name of a priority; the empty name is Normal.
func ParsePriority(name string) (Priority, error) {
	if name == "" {
		return Normal, nil
	}
	for i, p := range priorities {
		if p == name {
			return Priority(i) + Low, nil
		}
	}
	return Normal, fmt.Errorf("unknown priority %q: use high, normal or low", name)
}

// String returns the priority's name.
func (p Priority) String() string { return priorities[p-Low] }
