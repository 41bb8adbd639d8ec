package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A HealthChecker probes replicas that are not ready until they are, detects stuck replicas, and asks busy ones about their load.
type HealthChecker struct {
	upstreams []*upstream.Upstream
	changed   func(Change) // nil if nobody wants to know
	closed    context.Context
	close     context.CancelFunc
}

func newHealthChecker(upstreams []*upstream.Upstream, changed func(Change)) *HealthChecker {
	h := &HealthChecker{upstreams: upstreams, changed: changed}
	h.closed, h.close = context.WithCancel(context.Background())
	return h
}

// A Change is a change in the health of a replica.
type Change struct {
	replica.Change
	Upstream string
	Address  string
}

func (h *HealthChecker) notify(u *upstream.Upstream, r *replica.Replica, change replica.Change) {
	if h.changed != nil {
		h.changed(Change{Change: change, Upstream: u.Name, Address: r.Address})
	}
}

// Watch probes a replica until it is ready. It does nothing if the replica is ready or already watched.
func (h *HealthChecker) Watch(u *upstream.Upstream, r *replica.Replica) {
	if h.closed.Err() != nil || !r.StartProbing() {
		return
	}
	go func() {
		defer r.StopProbing()
		for h.sleep(r.NextProbe()) {
			found := u.Probe(h.closed, r)
			if h.closed.Err() != nil {
				return
			}
			if h.report(u, r, found); found == replica.Down {
				u.WakeUp.Again()
			}
			if !r.Status().State.NeedsProbe() {
				return
			}
		}
	}()
}

// report tells the replica what a probe found.
func (h *HealthChecker) report(u *upstream.Upstream, r *replica.Replica, found replica.State) {
	if change, changed := r.ReportProbe(found); changed {
		h.notify(u, r, change)
	}
}

// sleep waits. It reports false if the checker is closed.
func (h *HealthChecker) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.closed.Done():
		return false
	}
}

// WatchAll watches all replicas. It takes over those that were not ready under a previous configuration.
func (h *HealthChecker) WatchAll() {
	for _, u := range h.upstreams {
		for _, r := range u.Replicas {
			h.Watch(u, r)
		}
	}
}

// ProbeAll probes every replica that can be probed, all at the same time.
func (h *HealthChecker) ProbeAll(ctx context.Context) {
	var all sync.WaitGroup
	for _, u := range h.upstreams {
		if !u.CanProbe() || u.Optional {
			continue
		}
		for _, r := range u.Replicas {
			all.Go(func() { h.probe(ctx, u, r) })
		}
	}
	all.Wait()
}

func (h *HealthChecker) probe(ctx context.Context, u *upstream.Upstream, r *replica.Replica) {
	if !r.ClaimProbe() {
		return
	}
	found := u.Probe(ctx, r)
	if ctx.Err() != nil {
		return
	}
	h.report(u, r, found)
	h.Watch(u, r)
}

// Close stops all probes. Requests are not affected.
func (h *HealthChecker) Close() { h.close() }
