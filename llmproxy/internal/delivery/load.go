package delivery

import (
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// firstLook is how long requests must be in flight at a replica before it is asked about its load, so that short requests cause no others.
const firstLook = time.Second

// watchLoad asks a replica about its load for as long as requests are in flight or wait there, and about the models that it has in memory
// for as long as requests wait. Upstream.Work and Upstream.FreshenResidents pass on what it says.
func (h *HealthChecker) watchLoad(u *upstream.Upstream, r *replica.Replica) {
	if (u.ReportsLoad() || u.HasResidents()) && r.StartLoadWatch() {
		h.lookAtLoad(u, r, firstLook)
	}
}

// lookAtLoad asks for the load after a while, and again until the replica is idle. Between two looks, there is only a timer.
func (h *HealthChecker) lookAtLoad(u *upstream.Upstream, r *replica.Replica, after time.Duration) {
	time.AfterFunc(after, func() {
		switch idle := r.InFlight() == 0 && r.Waiting() == 0; {
		case h.closed.Err() != nil:
			r.StopLoadWatch()
		case idle:
			r.StopLoadWatch()
			if r.InFlight() > 0 { // it came too late to start its own watch
				h.watchLoad(u, r)
			}
		default:
			if r.Waiting() > 0 {
				u.FreshenResidents(false)
			}
			if u.ReportsLoad() {
				u.Work(h.closed, r)
			}
			h.lookAtLoad(u, r, upstream.WorkInterval)
		}
	})
}
