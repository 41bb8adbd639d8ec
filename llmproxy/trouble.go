package llmproxy

import (
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// calm is how long a trouble must not have shown itself before an answer is the end of it: else an upstream that fails now
// and then would fill the log with beginnings and ends.
const calm = 30 * time.Second

// troubles knows which upstreams are in trouble, so that each trouble is told once, not once a request.
type troubles struct {
	mu   sync.Mutex
	last map[troubleKey]time.Time // when it last showed itself
}

// A troubleKey is what a trouble is about: a replica, or, where the configuration is wrong, a target.
type troubleKey struct{ address, upstream, at string }

func newTroubles() *troubles { return &troubles{last: map[troubleKey]time.Time{}} }

// failed tells whether a failed attempt begins a trouble.
func (t *troubles) failed(rec *exchange.Record, a exchange.Attempt) bool {
	key := troubleKey{address: a.Address}
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

// worked tells whether an attempt that was answered ends a trouble.
func (t *troubles) worked(rec *exchange.Record, a exchange.Attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return false
	}
	ended := false
	for _, key := range [...]troubleKey{{address: a.Address}, configKey(rec, a)} {
		if at, known := t.last[key]; known && time.Since(at) >= calm {
			delete(t.last, key)
			ended = true
		}
	}
	return ended
}

func configKey(rec *exchange.Record, a exchange.Attempt) troubleKey {
	upstream, at := targetLabel(rec, a.Configured)
	return troubleKey{upstream: upstream, at: at}
}

func troubleBegins(v router.Verdict) string {
	if v == router.Misconfigured {
		return "upstream refuses this gateway: mend the configuration"
	}
	return "upstream is in trouble"
}
