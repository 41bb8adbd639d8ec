package router

import (
	"slices"
	"time"
)

// A Verdict is what the end of an attempt means: whether another target may be tried, and whether the upstream is to blame.
// docs/failover.md lists which answers of which server lead to which verdict.
type Verdict uint8

// The verdicts. Only OK, ClientError and ClientClosed end a request before every target was tried.
const (
	OK            Verdict = iota // the upstream answered
	Unreachable                  // connection refused, unknown host, TLS failure, or the server is still loading its model
	Overloaded                   // 429, 503 overload, 529, our own admission queue: works, but not now
	Unsupported                  // this target cannot take the request (context too long, no tools); another one may
	Adjustable                   // the same target takes the request with a smaller max_tokens
	Misconfigured                // our API key or the model's name is wrong there
	ClientError                  // the request itself is wrong; every target would refuse it
	Timeout                      // no first content in time, or silence between events
	Failed                       // 5xx, reset, cut before the finish, an answer that is not JSON
	ClientClosed                 // the client left
)

var verdictNames = [...]string{
	"ok", "unreachable", "overloaded", "unsupported", "adjustable", "misconfigured", "client_error", "timeout", "failed", "client_closed",
}

// String returns the verdict's name as it stands in logs, metrics and X-LLM-Route.
func (v Verdict) String() string { return verdictNames[v] }

// TryNext reports whether another target may answer after an attempt that ended so.
func (v Verdict) TryNext() bool { return v != OK && v != ClientError && v != ClientClosed }

// IsFailure reports whether an attempt that ended so counts against the replica in its circuit breaker. A server that is overloaded,
// loading or misconfigured is not sick.
func (v Verdict) IsFailure() bool { return v == Timeout || v == Failed }

// retryable reports whether the same target may be tried again when no other is left. A timeout has already cost the longest
// wait, and what is unsupported or misconfigured stays so.
func (v Verdict) retryable() bool { return v == Unreachable || v == Overloaded || v == Failed }

// informative orders the verdicts by what they are worth to a client that gets one of several: first what says when to come
// back, then what may pass by itself, last what only the operator can fix.
var informative = []Verdict{Overloaded, Timeout, Failed, Unreachable, Unsupported, Adjustable, Misconfigured}

// MoreInformative reports whether v tells the client more than another verdict of the same request. The verdict that ended the
// request tells most: it is not in the list, so its index is -1.
func (v Verdict) MoreInformative(other Verdict) bool {
	return slices.Index(informative, v) < slices.Index(informative, other)
}

// An Outcome is the end of an attempt, as far as it matters for the next one.
type Outcome struct {
	Verdict Verdict
	// RetryAfter is how long the upstream asks to be left alone; zero if it does not.
	RetryAfter time.Duration
	// Loading reports that an Unreachable server said that it is loading.
	Loading bool
}
