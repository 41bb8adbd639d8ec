package delivery

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// How soon a silent replica is taken for a stuck one: healthy by its probes, without progress on any request.
const (
	silenceLeast = 20 * time.Second // how long it must have sent nothing to anybody
	checksApart  = 2 * time.Second  // how far the two checks of its counters are apart; llama.cpp must not be asked more often
)

// suspect begins to find out whether a replica is stuck, unless that is under way. Services are judged by their answers alone.
func (h *HealthChecker) suspect(u *upstream.Upstream, r *replica.Replica) {
	if h.closed.Err() != nil || !u.CanProbe() || !r.StartStuckCheck() {
		return
	}
	go func() {
		defer r.StopStuckCheck()
		if h.isStuck(u, r) {
			h.markStuck(u, r)
		}
	}()
}

// isStuck waits until the silence has lasted long enough, and reports whether nothing has moved meanwhile. Where no counters
// say so, several silent streams must.
func (h *HealthChecker) isStuck(u *upstream.Upstream, r *replica.Replica) bool {
	before, counted := u.Progress(h.closed, r)
	since := r.Silence(0).Since
	if !h.silenceLasts(r, since, time.Now().Add(checksApart)) {
		return false
	}
	after, again := u.Progress(h.closed, r)
	healthy := u.Probe(h.closed, r) == replica.Up // else it is loading, or down, which is known
	silence := r.Silence(silenceLeast)
	if !healthy || !silence.Since.Equal(since) || len(silence.Attempts) == 0 {
		return false
	}
	if counted && again {
		return before == after
	}
	return silence.IsConclusive()
}

// silenceLasts waits until the silence has lasted for as long as is suspicious, the time for reading the prompts included,
// and at least until earliest. It reports false as soon as the silence is over.
func (h *HealthChecker) silenceLasts(r *replica.Replica, since, earliest time.Time) bool {
	for {
		silence := r.Silence(0)
		if !silence.Since.Equal(since) || len(silence.Attempts) == 0 {
			return false
		}
		due := since.Add(silenceLeast + silence.Prefill())
		if due.Before(earliest) {
			due = earliest
		}
		left := time.Until(due)
		if left <= 0 {
			return true
		}
		if !h.pause(min(left, silenceLeast/4)) {
			return false
		}
	}
}

// markStuck takes the replica out and ends what is under way there.
func (h *HealthChecker) markStuck(u *upstream.Upstream, r *replica.Replica) {
	change, told := r.MarkStuck()
	if told {
		h.tell(u, Change{Change: change, Address: r.Address})
	}
	for _, a := range r.Silence(0).Attempts {
		a.Abort()
	}
}
