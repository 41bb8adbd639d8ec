package telemetry

import (
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// recoveryTime is how long after the last failed attempt a successful one ends a failure. Without it, an upstream that fails
// now and then would fill the log with failures and recoveries.
const recoveryTime = 30 * time.Second

// failures tracks which upstreams are failing, so that a failure is logged once instead of with every request.
type failures struct {
	mu   sync.Mutex
	last map[failureKey]time.Time // the last failed attempt
}

// A failureKey identifies a replica by its address, or, where the configuration is wrong, a target.
type failureKey struct{ address, upstream, model string }

func newFailures() *failures { return &failures{last: map[failureKey]time.Time{}} }

// begins reports whether a failed attempt starts a failure.
func (f *failures) begins(rec *exchange.Record, a exchange.Attempt) bool {
	key := failureKey{address: a.Address}
	switch a.Verdict {
	case router.Unreachable, router.Timeout, router.Failed:
	case router.Misconfigured:
		key = targetKey(rec, a)
	default:
		return false // caused by the request, or by load
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.last[key]
	f.last[key] = time.Now()
	return !known
}

// ends reports whether a successful attempt ends a failure.
func (f *failures) ends(rec *exchange.Record, a exchange.Attempt) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.last) == 0 {
		return false
	}
	ended := false
	for _, key := range [...]failureKey{{address: a.Address}, targetKey(rec, a)} {
		if last, known := f.last[key]; known && time.Since(last) >= recoveryTime {
			delete(f.last, key)
			ended = true
		}
	}
	return ended
}

func targetKey(rec *exchange.Record, a exchange.Attempt) failureKey {
	target := targetLabel(rec, a.Configured)
	return failureKey{upstream: target.upstream, model: target.model}
}
