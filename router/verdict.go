package router

import (
	"slices"
	"time"
)

// A Verdict is what the end of an attempt means: whether another target may be tried, and whether the upstream is to blame.
// docs/failover.md lists the verdicts and the answers of each server that lead to them.
type Verdict uint8

// The verdicts. Only OK, ClientError and ClientClosed end a request before every target was tried.
const (
	OK            Verdict = iota // the upstream answered
	Unreachable                  // connection refused, unknown host, TLS failure, or the server is still loading its model
	Overloaded                   // 429, 503 overload, 529, our own admission queue: works, but not now
	Unsupported                  // this target cannot take the request (context too long, no tools); another one may
	Adjustable                   // the same target takes the request with a change that the gateway makes, such as a smaller max_tokens
	Misconfigured                // our API key or the model's name is wrong there
	ClientError                  // the request itself is wrong; every target would refuse it
	Timeout                      // no first content in time, or silence between events
	Failed                       // 5xx, reset, cut before the finish, an answer that is not JSON
	ClientClosed                 // the client left
)

var verdictNames = [...]string{
	"ok", "unreachable", "overloaded", "unsupported", "adjustable", "misconfigured", "client_error", "timeout", "failed", "client_closed",
}

// String returns the verdict's name, as in logs, metrics and X-LLM-Route.
func (v Verdict) String() string { return verdictNames[v] }

// TryNext reports whether another target may answer after an attempt that ended with this verdict.
func (v Verdict) TryNext() bool { return v != OK && v != ClientError && v != ClientClosed }

// IsFailure reports whether an attempt that ended with this verdict counts as a failure in the replica's circuit breaker. A server
// that is overloaded, loading or misconfigured has not failed.
func (v Verdict) IsFailure() bool { return v == Timeout || v == Failed }

// retryable reports whether the same target may be tried again when no other is left. A timeout has already cost the longest wait,
// and a retry does not change what is unsupported or misconfigured.
func (v Verdict) retryable() bool { return v == Unreachable || v == Overloaded || v == Failed }

// informative orders the verdicts by what they are worth to a client that gets only one of several: first the one that says when to
// retry, then those that may resolve by themselves, last those that only the operator can fix.
var informative = []Verdict{Overloaded, Timeout, Failed, Unreachable, Unsupported, Adjustable, Misconfigured}

// MoreInformative reports whether v is worth more to the client than another verdict of the same request. A verdict that ends the
// request is worth most: it is not in the list, so its index is -1.
func (v Verdict) MoreInformative(other Verdict) bool {
	return slices.Index(informative, v) < slices.Index(informative, other)
}

// An Outcome is how an attempt ended, as far as it matters for the next one.
type Outcome struct {
	Verdict Verdict
	// Loading reports whether an Unreachable server said that it is loading its model.
	Loading bool
	// RetryAfter is how long the upstream asks to wait before a retry, or zero.
	RetryAfter time.Duration
	// Adjust names what must change before an Adjustable target takes the request. Each change is made once.
	Adjust string
}
