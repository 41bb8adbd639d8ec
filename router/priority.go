package router

import (
	"fmt"
	"time"
)

// A Priority is a class of requests: of those that wait for a slot, the higher class gets it first, and within a class who came
// first. The zero value is Normal.
type Priority int8

// The priorities.
const (
	Low Priority = iota - 1
	Normal
	High
)

var priorities = [...]string{"low", "normal", "high"}

// ParsePriority reads a priority's name; the empty name is Normal.
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

// String is the priority's name.
func (p Priority) String() string { return priorities[p-Low] }

// promotions is by which part of its longest wait a request moves up a class, so that strict priority starves nobody: a low one
// has moved up twice after half of its wait, and nobody who comes later goes before it in the other half. A fixed time would
// be too short for slow models, where all that wait would soon be of one class, or too long for short waits, which would be over before.
const promotions = 4

// due orders a line: when a request gets to the end of the highest class.
func (p Priority) due(now time.Time, longest time.Duration) time.Time {
	return now.Add(time.Duration(High-p) * (longest / promotions))
}
