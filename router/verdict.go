package router

import "time"

// A Verdict is what the end of an attempt means: whether the next target may be tried, and whose fault it was.
// docs/failover.md lists which answers of which server lead to which verdict.
type Verdict uint8

// The verdicts. Only OK, Caller and Gone end a request before every target was tried.
const (
	OK            Verdict = iota // the upstream answered
	NotUp                        // refused, name not found, TLS failed, or the server is still loading its model
	Busy                         // 429, 503 overload, 529, our own queue: works, but not now
	FitsElsewhere                // this target cannot take this request (context too long, no tools), another one may
	Fixable                      // it asks for more output than fits here; with less the same target takes it
	Config                       // our key or the model's name is wrong there
	Caller                       // the request itself is wrong; no other target would like it better
	Slow                         // silence before the first content, or between events
	Broken                       // 5xx, reset, cut before the finish, an answer that is not JSON
	Gone                         // the client left
)

var verdictNames = [...]string{"ok", "not_up", "busy", "fits_elsewhere", "fixable", "config", "caller", "slow", "broken", "gone"}

// String gives the verdict's name as it stands in logs and in X-LLM-Route.
func (v Verdict) String() string { return verdictNames[v] }

// TryNext tells whether another target may answer after an attempt that ended so.
func (v Verdict) TryNext() bool {
	switch v {
	case OK, Caller, Gone:
		return false
	}
	return true
}

// Strikes tells whether an attempt that ended so speaks against the replica: what is busy, loading or wrongly configured is
// not sick.
func (v Verdict) Strikes() bool { return v == Slow || v == Broken }

// again tells whether the same target may be tried again when no other is left. Silence was already waited for, and what
// does not fit or is not allowed will not change.
func (v Verdict) again() bool { return v == NotUp || v == Busy || v == Broken }

// telling orders the verdicts by what they are worth to a client that gets one of several: first what says when to come
// back, then what may pass by itself, last what only the operator can mend.
var telling = [...]Verdict{Busy, Slow, Broken, NotUp, FitsElsewhere, Fixable, Config}

// Telling tells whether v says more to the client than another verdict of the same request. What ended the request, says
// most.
func (v Verdict) Telling(other Verdict) bool { return v.worth() > other.worth() }

func (v Verdict) worth() int {
	for i, t := range telling {
		if t == v {
			return len(telling) - i
		}
	}
	return len(telling) + 1
}

// An Outcome is how an attempt failed, as far as it matters for the next one.
type Outcome struct {
	Verdict Verdict
	// RetryAfter is how long the upstream asks to be left alone; zero if it does not.
	RetryAfter time.Duration
	// Loading tells that a NotUp server said that it is loading.
	Loading bool
}
