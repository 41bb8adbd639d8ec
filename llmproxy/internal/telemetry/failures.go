package telemetry

import (
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// recoveredAfter is how long a failure must not have shown itself before an answer is the end of it: else an upstream that fails
// now and then would fill the log with beginnings and ends.
const recoveredAfter = 30 * time.Second

// failures knows which upstreams fail, so that each failure is logged once, not once a request.
type failures struct {
	mu   sync.Mutex
	last map[failureKey]time.Time // when it last showed itself
}

// A failureKey is what a failure is about: a replica, or, where the configuration is wrong, a target.
type failureKey struct{ address, upstream, at string }

func newFailures() *failures { return &failures{last: map[failureKey]time.Time{}} }

// failed reports whether a failed attempt is the first sign of a failure.
func (t *failures) failed(rec *exchange.Record, a exchange.Attempt) bool {
	key := failureKey{address: a.Address}
	switch a.Verdict {
	case router.Unreachable, router.Timeout, router.Failed:
	case router.Misconfigured:
		key = configKey(rec, a)
	default:
		return false // the request's own, or the load's
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.last[key]
	t.last[key] = time.Now()
	return !known
}

// worked reports whether an attempt that was answered ends a failure.
func (t *failures) worked(rec *exchange.Record, a exchange.Attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return false
	}
	ended := false
	for _, key := range [...]failureKey{{address: a.Address}, configKey(rec, a)} {
		if at, known := t.last[key]; known && time.Since(at) >= recoveredAfter {
			delete(t.last, key)
			ended = true
		}
	}
	return ended
}

func configKey(rec *exchange.Record, a exchange.Attempt) failureKey {
	upstream, at := targetLabel(rec, a.Configured)
	return failureKey{upstream: upstream, at: at}
}

func failureMessage(v router.Verdict) string {
	if v == router.Misconfigured {
		return "upstream refuses this gateway; check its configuration"
	}
	return "upstream fails"
}
