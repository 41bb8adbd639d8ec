package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A HealthChecker probes replicas that are not ready until they are, and finds out which are stuck. It ends with Close.
type HealthChecker struct {
	upstreams []*upstream.Upstream
	changed   func(Change) // nil for nobody
	closed    context.Context
	close     context.CancelFunc
}

func newHealthChecker(upstreams []*upstream.Upstream, changed func(Change)) *HealthChecker {
	h := &HealthChecker{upstreams: upstreams, changed: changed}
	h.closed, h.close = context.WithCancel(context.Background())
	return h
}

// A Change is what a replica has become.
type Change struct {
	replica.Change
	Upstream string
	Address  string
}

func (h *HealthChecker) tell(u *upstream.Upstream, change Change) {
	if h.changed != nil {
		change.Upstream = u.Name
		h.changed(change)
	}
}

// Watch probes a replica that is not ready until it is, unless that is done already.
func (h *HealthChecker) Watch(u *upstream.Upstream, r *replica.Replica) {
	if h.closed.Err() != nil || !r.StartProbing() {
		return
	}
	go func() {
		defer r.StopProbing()
		for h.pause(r.NextProbe()) {
			found := u.Probe(h.closed, r)
			if h.closed.Err() != nil {
				return
			}
			if change, told := r.ReportProbe(found); told {
				h.tell(u, Change{Change: change, Address: r.Address})
			}
			if !r.Status().State.NeedsProbe() {
				return
			}
		}
	}()
}

// pause waits; it reports false if the checker was closed meanwhile.
func (h *HealthChecker) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.closed.Done():
		return false
	}
}

// WatchAll probes the replicas that are not ready: those that an earlier configuration left so.
func (h *HealthChecker) WatchAll() {
	for _, u := range h.upstreams {
		for _, r := range u.Replicas {
			h.Watch(u, r)
		}
	}
}

// ProbeAll probes every replica that can be probed, at the same time.
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
	if change, told := r.ReportProbe(found); told {
		h.tell(u, Change{Change: change, Address: r.Address})
	}
	h.Watch(u, r)
}

// Close ends the probes. Requests go on.
func (h *HealthChecker) Close() { h.close() }
