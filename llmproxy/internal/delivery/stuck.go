package delivery

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A replica is stuck if it makes no progress on any request although its probes succeed.
const (
	minSilence    = 20 * time.Second // how long it must have sent nothing on any request
	checkInterval = upstream.WorkInterval
)

// suspect starts a check whether a replica is stuck, unless one is running. Replicas that cannot be probed are judged by their
// answers alone.
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

// isStuck waits until the silence has lasted long enough and reports whether the replica made no progress meanwhile. If the
// replica has no counters, several silent streams are needed as proof.
func (h *HealthChecker) isStuck(u *upstream.Upstream, r *replica.Replica) bool {
	before, _ := u.Work(h.closed, r)
	since := r.Silence(0).Since
	if !h.awaitSilence(r, since, time.Now().Add(checkInterval)) {
		return false
	}
	after, counted := u.Work(h.closed, r)
	healthy := u.Probe(h.closed, r) == replica.Up // otherwise it is loading or down, which is not the same as stuck
	silence := r.Silence(minSilence)
	if !healthy || !silence.Since.Equal(since) || len(silence.Attempts) == 0 {
		return false
	}
	switch {
	case counted && before.Conclusive && after.Conclusive:
		return !after.ShowsProgress(before)
	case counted && !before.At.IsZero() && after.ShowsProgress(before):
		return false
	}
	return silence.IsConclusive()
}

// awaitSilence waits until earliest, and until the silence has lasted for minSilence plus the time that the replica may need to read
// the prompts. It reports false as soon as the silence ends.
func (h *HealthChecker) awaitSilence(r *replica.Replica, since, earliest time.Time) bool {
	for {
		silence := r.Silence(0)
		if !silence.Since.Equal(since) || len(silence.Attempts) == 0 {
			return false
		}
		due := since.Add(minSilence + silence.Prefill())
		if due.Before(earliest) {
			due = earliest
		}
		left := time.Until(due)
		if left <= 0 {
			return true
		}
		if !h.sleep(min(left, minSilence/4)) {
			return false
		}
	}
}

// markStuck takes the replica out of service and aborts its attempts.
func (h *HealthChecker) markStuck(u *upstream.Upstream, r *replica.Replica) {
	if change, changed := r.MarkStuck(); changed {
		h.notify(u, r, change)
	}
	for _, a := range r.Silence(0).Attempts {
		a.Abort()
	}
}
