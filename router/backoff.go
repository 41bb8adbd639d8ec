package router

import (
	"math/rand/v2"
	"time"
)

// The bounds of a request's attempts. SDKs make three of their own, so that these multiply.
const (
	MaxAttempts  = 6 // of one request over all its pools
	maxPerTarget = 3 // of one request at one replica
)

const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter is the longest Retry-After that is obeyed; for more, the client is told.
	maxRetryAfter = 10 * time.Second
)

// backoff is how long a target is left alone after its nth failure: doubled each time, and off by up to a fifth, so that
// requests that failed together do not come back together.
func backoff(n int) time.Duration {
	d := min(firstBackoff<<(n-1), maxBackoff)
	return d - d/5 + rand.N(d*2/5)
}
